"""How much of the compute that a dynamic network saves is saved on the clock: time saved over MACs saved.

    python benchmarks/realised.py                        # all families, 64 px, some minutes
    python benchmarks/realised.py --family timm --side 128
    python benchmarks/realised.py --json

For each family an exported network beside the static one of the same backbone, in ONNX Runtime and in PyTorch, at batch
1 and 64, one thread, runs interleaved, medians. Its gates still decide and its exits still answer, but their thresholds
are set so that every image skips the same share, about 25, 50 and 75 % of the MACs. So weights need not be trained: 1
would be all of the saved MACs saved on the clock, 0 nothing, below 0 it is slower than the static network. Batches are
those of images that are all alike; where images differ, an ONNX branch runs for a batch if any image needs it, and the
shares at batch 64 are lower. Times are those that the one thread computes; run it on a quiet machine all the same.

`deciding` says why a share is low: what the network takes more than the static one where nothing is skipped. That is
the price of gates, exits and branches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.export.latency import session_of
from search.latency.time_units import clock_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.ship import DeployedNet, onnx_model, ship, ship_baseline
from spaces.deploy.thresholds import is_exit
from trainers.latency import latencies_ms

Run = Callable[[Tensor], object]
OPEN, CLOSED = 0.0, 1.0  # thresholds of a gate's probability
LEAVE, STAY = -1.0, 1.0  # of an exit's confidence
SHARES = (0.25, 0.5, 0.75)
BATCHES = (1, 64)
REPEATS = {1: 60, 64: 6}
SECONDS = 4.0  # of one comparison
NETS: dict[str, dict[str, Any]] = {
    "gated_resnet": {"backbone": "resnet20", "granularity": "layer", "forced_open": "none"},
    "multi_exit": {"backbone": "resnet18", "width": 0.5},
    "gated_densenet": {"depth": 40, "growth": 12},
    "gated_mobilenet": {"width": 0.5, "granularity": "layer", "forced_open": "none"},
    "skip_vit": {"layers": 6, "dim": 128, "head_dim": 32, "patch": 8},
    "timm": {"backbone": "tf_efficientnet_lite0", "dynamics": "exits"},
    "timm gates": {"backbone": "tf_efficientnet_lite0", "dynamics": "gates"},
}


@dataclass(frozen=True)
class Row:
    """One comparison: shares of the static network's MACs and milliseconds that are saved."""

    net: str
    batch: int
    runtime: str
    macs_saved: float
    time_saved: float
    deciding: float  # time with nothing skipped over the static network's, minus 1
    static_ms: float

    @property
    def realised(self) -> float:
        return self.time_saved / self.macs_saved


def built(name: str, side: int) -> tuple[DynamicNet, DeployedNet]:
    """A network with random weights, and what is shipped of it."""
    own = family(name.split()[0])
    sizes = {"channels": 3, "height": side, "width": side, "classes": 10}
    task = Task(**sizes, mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.manual_seed(0)
    net = Candidate.of(own, NETS[name], 1).build(task, 0).float().eval()
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    knobs = Knobs()
    if net.exit_count and not net.gates:
        exits = (0.5,) * net.exit_count
        knobs = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=exits)
    return net, ship(net, knobs, rates)


def skipping(net: DeployedNet, images: Tensor) -> list[tuple[float, list[float]]]:
    """(MACs, thresholds) from everything run to as little as can be, one decision more skipped each."""
    named = list(net.thresholds)
    run = [STAY if is_exit(name) else OPEN for name in named]
    vectors = [list(run)]
    if all(is_exit(name) for name in named):
        vectors += [
            [LEAVE if i == k else STAY for i in range(len(named))] for k in range(len(named))
        ]
    else:
        for i in reversed(range(len(named))):
            run[i] = CLOSED
            vectors.append(list(run))
    with torch.inference_mode():
        return [(float(net.run(images, vector)[1].mean()), vector) for vector in vectors]


def rows(name: str, side: int) -> Iterator[Row]:
    """The network at about each of SHARES, at each batch size, in each runtime."""
    net, shipped = built(name, side)
    static = ship_baseline(net)
    one = torch.rand(1, 3, side, side)
    sessions = [session_of(onnx_model(each, torch.cat([one, one]))) for each in (shipped, static)]
    found = skipping(shipped, one)
    picked: list[tuple[float, list[float]]] = []
    for share in SHARES:
        nearest = min(found, key=lambda pair: abs(1 - pair[0] / net.plain_macs - share))
        if nearest not in picked:
            picked.append(nearest)
    everything = found[0][1]
    for macs, vector in picked:
        runtimes: dict[str, tuple[Run, Run, Run]] = {
            "onnxruntime": (
                _session(sessions[0], vector),
                _session(sessions[0], everything),
                _session(sessions[1], []),
            ),
            "torch": (
                partial(shipped.run, thresholds=vector),
                partial(shipped.run, thresholds=everything),
                static,
            ),
        }
        for batch in BATCHES:
            inputs = [one.expand(batch, -1, -1, -1).contiguous()]
            for runtime, runs in runtimes.items():
                ours, full, theirs = latencies_ms(
                    runs,
                    inputs,
                    warm_up=3,
                    repeats=REPEATS[batch],
                    seconds=SECONDS,
                    clock=clock_of(1),
                )
                saved = 1 - ours.median / theirs.median
                deciding = full.median / theirs.median - 1
                part = 1 - macs / net.plain_macs
                yield Row(name, batch, runtime, part, saved, deciding, theirs.median)


def _session(session: Any, thresholds: Sequence[float]) -> Run:
    given = {"thresholds": np.array(thresholds)} if len(thresholds) else {}
    return lambda batch: session.run(None, {"pixels": batch.numpy(), **given})


HEADER = (
    "| network | MACs saved | batch | runtime | time saved | realised | deciding | static ms |\n"
    + "| --- " * 8
    + "|"
)


def line(row: Row) -> str:
    """A row of the table in Markdown; `realised` is time saved over MACs saved."""
    return (
        f"| {row.net} | {row.macs_saved:.0%} | {row.batch} | {row.runtime} | {row.time_saved:.0%} | "
        f"{row.realised:.2f} | {row.deciding:+.0%} | {row.static_ms:.3g} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=list(NETS), action="append")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Row] = []
    if not given.json:
        print(HEADER)
    for name in given.family or NETS:
        for row in rows(name, given.side):
            found.append(row)
            if not given.json:
                print(line(row), flush=True)
    if given.json:
        text = [asdict(row) | {"realised": row.realised} for row in found]
        print(json.dumps(text, indent=2))


if __name__ == "__main__":
    main()
