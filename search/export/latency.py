"""How long the exported model takes on this machine beside a static network, in ONNX Runtime and in PyTorch.

Always with one thread: on cores that others use too, threads that wait for each other take many times as long.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from search.export.folder import BATCHES
from search.latency.lock import timing
from search.latency.time_units import clock_of
from spaces.deploy.ship import DeployedNet
from trainers.data.split import Split, evenly
from trainers.latency import Latency, latencies_ms, torch_threads

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

THREADS = 1
REPEATS = {1: 200, 64: 30}
WARM_UP = {1: 20, 64: 2}
SECONDS = 3.0  # of each comparison, and a few runs more where one takes long
INPUTS = {1: 64, 64: 8}  # batches that are taken in turn
Run = Callable[[Tensor], object]


def session_of(model: ModelProto, threads: int = THREADS) -> InferenceSession:
    """The model in ONNX Runtime, with so many threads: those that latency is measured with, unless told otherwise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns that thresholds are no constants
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


def latency(
    nets: tuple[DeployedNet, DeployedNet],
    sessions: tuple[InferenceSession, InferenceSession],
    tests: tuple[Split, Split],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Milliseconds at each batch size and in each runtime, of the exported model and of the static network.

    A dynamic network answers one image in a fraction of the time of another: `mean` is what a batch takes on average.

    `tests` are the same test images, for each network at the size that it takes. What else of dynafront measures time
    on this machine waits meanwhile.
    """
    import onnxruntime

    runtimes: dict[str, tuple[Run, Run]] = {
        "onnxruntime": (_run(sessions[0]), _run(sessions[1])),
        "torch": nets,
    }
    found: dict[str, Any] = {
        "device": f"CPU, {platform.machine()}",
        "threads": THREADS,
        "versions": {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__},
    }
    for size in BATCHES:
        say(f"measuring latency at batch {size}")
        inputs = list(zip(*(_spread(test, size) for test in tests), strict=True))
        with timing(), torch_threads(THREADS):
            found[f"batch_{size}"] = {
                name: _side_by_side(both, inputs, size) for name, both in runtimes.items()
            }
    return found


def beside_in_onnxruntime(
    ours: InferenceSession, float32: InferenceSession, test: Split
) -> dict[str, Any]:
    """Milliseconds at each batch size of a variant of the exported model, measured in turn with the float32 one."""
    return beside_onnxruntime(_run(ours), float32, test)


def beside_onnxruntime(ours: Run, float32: InferenceSession, test: Split) -> dict[str, Any]:
    """The same of anything that runs the exported model."""
    found: dict[str, Any] = {}
    for size in BATCHES:
        inputs = [(batch, batch) for batch in _spread(test, size)]
        with timing(), torch_threads(THREADS):
            both = latencies_ms(
                (ours, _run(float32)),
                inputs,
                warm_up=WARM_UP[size],
                repeats=REPEATS[size],
                seconds=SECONDS,
                clock=clock_of(THREADS),
            )
        names = ("variant", "float32")
        rows: dict[str, Any] = {name: _row(one) for name, one in zip(names, both, strict=True)}
        found[f"batch_{size}"] = rows | {"ratio": both[0].mean / both[1].mean}
    return found


def _side_by_side(
    both: tuple[Run, Run], inputs: list[tuple[Tensor, ...]], size: int
) -> dict[str, Any]:
    ours, static = latencies_ms(
        both,
        inputs,
        warm_up=WARM_UP[size],
        repeats=REPEATS[size],
        seconds=SECONDS,
        clock=clock_of(THREADS),
    )
    ratio = ours.mean / static.mean
    return {"exported": _row(ours), "static": _row(static), "ratio": ratio}


def _row(measured: Latency) -> dict[str, float]:
    return measured._asdict()


def _run(session: InferenceSession) -> Run:
    return lambda batch: session.run(None, {"pixels": batch.numpy()})


def _spread(split: Split, size: int) -> list[Tensor]:
    """Batches of images spread evenly over the split, as pixels in [0, 1], all of as many images.

    Data sets are often stored class by class: the first images are of one, and of one effort. Batches are mixed, so
    that those which are timed before time is up are of all classes too.
    """
    alike = min(size, len(split))
    count = min(INPUTS[size], len(split) // alike)
    draw = torch.Generator().manual_seed(0)
    places_N = evenly(len(split), count * alike)
    mixed_N = places_N[torch.randperm(len(places_N), generator=draw)]
    return [batch.images.float() / 255 for batch in split.at(mixed_N).batches(alike)]
