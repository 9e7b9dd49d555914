"""Units timed on this machine: each alone, round after round, while nothing else of ours is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from search.latency.lock import timing
from search.latency.table import LatencyTable, Runtime, Timed
from search.latency.time_units import BRANCH, CALL, clock_of, interleaved, session_run, setting
from spaces.contract.units import Unit
from spaces.deploy.unit_program import branch_program, empty_program, unit_program
from trainers.latency import torch_threads

SECONDS = 60.0  # about how long all units are timed
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
WORDS = {CALL: "a call that computes nothing", BRANCH: "a choice between two branches"}
Run = Callable[[], object]


def profiled(
    units: Iterable[Unit],
    *,
    runtime: Runtime = "onnxruntime",
    device: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> LatencyTable:
    """The table of these units, which are of this batch size. Raises ValueError where the device cannot be had."""
    check_device(runtime, device)
    with torch_threads(threads):
        make = _torch_run(device) if runtime == "torch" else _session(threads, PROVIDERS[device])
        runs, words = _idle_runs(runtime, device, threads), dict(WORDS)
        wholes = {}
        for unit in units:
            if unit.parts:
                wholes[unit.key] = list(unit.parts)
            if unit.key not in words:
                runs[unit.key], words[unit.key] = make(unit), unit.words
        with timing(), torch.inference_mode():
            say(f"timing {len(runs)} units for up to {seconds:.0f} s")
            clock = clock_of(threads, device)
            times = interleaved(list(runs.values()), seconds, clock=clock)
    timed = {key: Timed(unit=words[key], **one) for key, one in zip(runs, times, strict=True)}
    where = setting(runtime, device, threads, batch, _versions(runtime))
    return LatencyTable(**where, units=timed, wholes=wholes)


def check_device(runtime: Runtime, device: str) -> None:
    """Raise ValueError where the runtime does not have the device here."""
    if device != "cuda":
        return
    if runtime == "torch" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no GPU here that PyTorch can use; take cpu")
    if runtime == "onnxruntime":
        import onnxruntime

        if PROVIDERS[device] not in onnxruntime.get_available_providers():
            raise ValueError(
                "--device cuda: this onnxruntime runs on CPUs only; install onnxruntime-gpu, or "
                "take --runtime torch"
            )


def _idle_runs(runtime: Runtime, device: str, threads: int) -> dict[str, Run]:
    """What does nothing, and what does nothing but choose."""
    if runtime == "onnxruntime":
        programs = {CALL: empty_program(), BRANCH: branch_program()}
        return {
            name: session_run(one.SerializeToString(), threads, PROVIDERS[device])
            for name, one in programs.items()
        }
    flag = torch.zeros(1, 1, device=device)
    return {
        CALL: _waited(lambda: None, device),
        # execution that skips waits for the decision
        BRANCH: _waited(lambda: (flag[:, 0] > 0).nonzero().shape[0], device),
    }


def _session(threads: int, provider: str) -> Callable[[Unit], Run]:
    return lambda unit: session_run(unit_program(unit).SerializeToString(), threads, provider)


def _torch_run(device: str) -> Callable[[Unit], Run]:
    def run_of(unit: Unit) -> Run:
        inputs = [torch.rand(one.shape, device=device).to(one.dtype) for one in unit.inputs]
        return _waited(lambda: unit.run(*inputs), device)

    return run_of


def _waited(run: Run, device: str) -> Run:
    if device == "cpu":
        return run

    def whole() -> None:
        run()
        torch.cuda.synchronize()

    return whole


def _versions(runtime: Runtime) -> dict[str, str]:
    if runtime == "torch":
        return {"torch": torch.__version__}
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}
