"""Whole networks timed on real images by the rules of a latency table, on the machine that the table is of.

Shapes: B images of a run, as many as the table's batch.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from search.latency.lock import timing
from search.latency.profile import PROVIDERS, check_device
from search.latency.table import LatencyTable
from search.latency.time_units import clock_of, interleaved, machine
from trainers.data.split import evenly
from trainers.latency import torch_threads

if TYPE_CHECKING:
    from onnx import ModelProto

    from spaces.deploy.ship import DeployedNet
    from trainers.data.splits import Split

IMAGES = 32  # batches that networks are timed on
LOOKED = 512  # images of which it is known how much a network computes for them
BATCH = 64  # of them in a pass
SECONDS = 8.0  # of a comparison, and a few runs more where one takes long
Run = Callable[[], object]


def elsewhere(table: LatencyTable) -> str | None:
    """Why networks cannot be timed as the table's units were: another machine, or no such device. None: they can."""
    if table.machine != machine():
        return f"the latency table is of {table.words}, and this machine is {platform.node()}"
    if table.device not in PROVIDERS:
        return f"the latency table is of {table.device}, and dynafront runs on {' and '.join(PROVIDERS)}"
    try:
        check_device(table.runtime, table.device)
    except ValueError as error:
        return str(error)
    return None


def whole_ms(
    nets: Sequence[DeployedNet],
    splits: Sequence[Split],
    table: LatencyTable,
    programs: Sequence[ModelProto] | None = None,
) -> list[float]:
    """Milliseconds that an image takes in each network, mean over images of the median over runs.

    `splits` are the same images, for each network at the size that it takes; those are timed on which the first network
    computes as much, in the mean and in the extremes, as on all. All are timed in turn, with the table's
    runtime, device, threads and batch, while nothing else of ours is timed. `programs` are the networks as ONNX, where
    these are known: to make one takes as long as all else here.
    """
    with torch_threads(table.threads):
        places_N = _typical(nets[0], splits[0], table.batch)
        batches = [_batches(split.at(places_N), table.batch) for split in splits]
        if table.runtime == "torch":
            runs = [_torch_runs(net, own, table) for net, own in zip(nets, batches, strict=True)]
        else:
            programs = programs or [_as_onnx(*one) for one in zip(nets, batches, strict=True)]
            runs = [_sessions(one, own, table) for one, own in zip(programs, batches, strict=True)]
        with timing(), torch.inference_mode():
            clock = clock_of(table.threads, table.device)
            times = interleaved([run for own in runs for run in own], SECONDS, clock=clock)
    medians = iter(times)
    return [
        sum(next(medians)["median"] for _ in own) / sum(map(len, given))
        for own, given in zip(runs, batches, strict=True)
    ]


def _typical(net: DeployedNet, split: Split, size: int) -> Tensor:
    """(N,) Places of IMAGES batches of images: of equal parts of them, ordered by MACs, the middle one of each.

    A dynamic network answers one image in a fraction of the time of another, so that a few images, spread evenly, may
    take it a good deal longer or shorter than all. In batches no image takes its own time: these are spread evenly.
    """
    if size > 1:
        return evenly(len(split), IMAGES * size)
    seen_N = evenly(len(split), LOOKED)
    with torch.inference_mode():
        macs = [
            net.run(batch.images.float() / 255)[1].double().expand(len(batch.images))
            for batch in split.at(seen_N).batches(BATCH)
        ]
    order_N = torch.cat(macs).argsort(stable=True)
    count = min(IMAGES, len(order_N))
    middle_N = ((torch.arange(count) + 0.5) * len(order_N) / count).long()
    return seen_N[order_N[middle_N]].sort().values


def _batches(split: Split, size: int) -> list[Tensor]:
    """Pixels (B, C, H, W) in [0, 1]; a last batch that is not full is left out."""
    found = [batch.images.float() / 255 for batch in split.batches(size)]
    return [one for one in found if len(one) == len(found[0])]


def _torch_runs(net: DeployedNet, batches: Sequence[Tensor], table: LatencyTable) -> list[Run]:
    placed = net.to(table.device)

    def run_of(batch: Tensor) -> Run:
        def run() -> None:
            placed(batch)
            if batch.is_cuda:
                torch.cuda.synchronize(batch.device)

        return run

    return [run_of(one.to(table.device)) for one in batches]


def _as_onnx(net: DeployedNet, batches: Sequence[Tensor]) -> ModelProto:
    from spaces.deploy.ship import onnx_model

    return onnx_model(net, batches[0] if len(batches[0]) > 1 else torch.cat([batches[0]] * 2))


def _sessions(program: ModelProto, batches: Sequence[Tensor], table: LatencyTable) -> list[Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = table.threads
    options.log_severity_level = 3  # it warns that thresholds are no constants
    providers = [PROVIDERS[table.device]]
    model = program.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=providers)

    def run_of(batch: Tensor) -> Run:
        given = {"pixels": batch.numpy()}
        return lambda: session.run(None, given)

    return [run_of(one) for one in batches]
