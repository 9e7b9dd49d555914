"""Units timed on this machine: each alone, round after round, while nothing else of ours is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from search.latency.lock import timing
from search.latency.table import LatencyTable, Runtime, Timed
from search.latency.time_units import BRANCH, CALL, interleaved, session_run, setting
from spaces.contract.units import Unit
from spaces.deploy.unit_program import branch_program, empty_program, unit_program

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
) -> LatencyTable:
    """The table of these units, which are of this batch size. Raises ValueError where the device cannot be had."""
    check_device(runtime, device)
    distinct = {unit.key: unit for unit in units}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = _runs(distinct, runtime, device, threads)
        with timing(), torch.inference_mode():
            times = interleaved(list(runs.values()), seconds)
    finally:
        torch.set_num_threads(before)
    words = {key: unit.words for key, unit in distinct.items()} | WORDS
    timed = {name: Timed(unit=words[name], **one) for name, one in zip(runs, times, strict=True)}
    return LatencyTable(**setting(runtime, device, threads, batch, _versions(runtime)), units=timed)


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


def programs(units: Mapping[str, Unit]) -> dict[str, bytes]:
    """ONNX programs by key, those of a call and of a branch first."""
    found = {
        CALL: empty_program().SerializeToString(),
        BRANCH: branch_program().SerializeToString(),
    }
    for key, unit in units.items():
        found[key] = unit_program(unit).SerializeToString()
    return found


def _runs(units: Mapping[str, Unit], runtime: Runtime, device: str, threads: int) -> dict[str, Run]:
    if runtime == "torch":
        return _torch_runs(units, device)
    provider = PROVIDERS[device]
    return {key: session_run(one, threads, provider) for key, one in programs(units).items()}


def _torch_runs(units: Mapping[str, Unit], device: str) -> dict[str, Run]:
    """Calls of the units; a decision is waited for, as execution that skips has to."""
    flag = torch.zeros(1, 1, device=device)
    runs: dict[str, Run] = {
        CALL: _waited(lambda: None, device),
        BRANCH: _waited(lambda: (flag[:, 0] > 0).nonzero().shape[0], device),
    }
    for key, unit in units.items():
        run, inputs = _moved(unit, device)
        runs[key] = _waited(lambda run=run, inputs=inputs: run(*inputs), device)  # type: ignore[misc]
    return runs


def _moved(unit: Unit, device: str) -> tuple[Callable[..., Any], list[Tensor]]:
    inputs = [torch.rand(one.shape, device=device).to(one.dtype) for one in unit.inputs]
    return unit.run, inputs


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
