"""Predicted latency of cascades beside that of the whole exported cascades.

Three cascades of networks with random weights, two or three members, some of images half as large as those that come.
About 60 % of the images go on at each member. Units, members and cascades are timed in the same rounds, as in
`benchmarks/latency.py`.

    python benchmarks/latency_cascades.py
    python benchmarks/latency_cascades.py --cpu-time      # on a machine that is busy

Measured: 64 px, 8 images, ONNX Runtime 1.32, CPU time on an Intel Xeon whose two cores had six busy processes.
Predicted over measured: gated_resnet > multi_exit 0.94, multi_exit > timm 0.81, gated_mobilenet > skip_vit >
gated_densenet 0.97.
Too low is the EfficientNet-Lite0 whose images leave at early exits, by itself too: 0.84 in `benchmarks/latency.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from benchmarks.latency import Subject, runs_of, subject, timed
from search.latency.cascades import cascade_ms, member_ms, resize_unit
from search.latency.predict import NetLatency
from search.latency.table import LatencyTable
from spaces.contract.cascades import CascadeRule
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.units import Unit
from spaces.deploy import generic
from spaces.deploy.cascade import DeployedCascade
from spaces.deploy.resized import resized

ON = 0.6  # of the images that come to a member go on
Member = tuple[str, float, dict[str, Any]]  # family, its side over that of the images, dimensions
CASCADES: tuple[tuple[Member, ...], ...] = (
    (
        ("gated_resnet", 0.5, {"backbone": "resnet14", "granularity": "layer"}),
        ("multi_exit", 1, {"backbone": "resnet18", "width": 0.25}),
    ),
    (
        ("multi_exit", 0.5, {"backbone": "resnet18", "width": 0.25}),
        ("timm", 1, {"backbone": "tf_efficientnet_lite0", "dynamics": "exits"}),
    ),
    (
        ("gated_mobilenet", 0.5, {"width": 0.5, "granularity": "layer"}),
        ("skip_vit", 1, {"layers": 3}),
        ("gated_densenet", 1, {"depth": 22, "growth": 12}),
    ),
)


@dataclass(frozen=True)
class Joined:
    """A cascade as it is shipped, its members as they are predicted, and the member that each image ends at."""

    members: list[Subject]
    net: DeployedCascade
    stages: Tensor  # (images,)

    def predicted(self, table: LatencyTable) -> float:
        """Milliseconds of an image, mean over the images."""
        each = [
            member_ms(
                NetLatency(one.net, table, in_cascade=True),
                one.knobs,
                one.rates,
                one.ran,
                self.net.task,
            )
            for one in self.members
        ]
        return float(cascade_ms(each, self.stages, table).mean())


def joined(cascade: tuple[Member, ...], pixels: Tensor) -> Joined:
    """The cascade with thresholds that let about ON of these images go on at each member."""
    members = []
    for name, share, values in cascade:
        side = round(share * pixels.shape[2])
        task = Task(channels=3, height=side, width=side, classes=10)
        candidate = Candidate.of(family(name), values, 1)
        members.append(subject(candidate, task, resized(pixels, side, side)))
    shipped = [generic.deploy(one.net, [(one.knobs, one.rates)]) for one in members]
    stages = torch.zeros(len(pixels), dtype=torch.int64)
    on, thresholds = torch.ones(len(pixels), dtype=torch.bool), []
    for one, net in zip(members[:-1], shipped, strict=False):
        with torch.inference_mode():
            sure = net(one.pixels).softmax(1).amax(1).double()
        thresholds.append(float(sure[on].quantile(ON)))
        on = on & (sure <= thresholds[-1])
        stages += on
    rule = CascadeRule(rule="maxprob", thresholds=tuple(thresholds), committee=False)
    return Joined(members, DeployedCascade(shipped, rule), stages)


def resizing(one: Joined) -> list[Unit]:
    """What makes images smaller for its members."""
    given = one.net.task
    return [
        resize_unit(given, member.net.task)
        for member in one.members
        if member.net.task.height != given.height
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=64, help="pixels on a side of the images")
    parser.add_argument("--images", type=int, default=8, help="that each cascade is timed on")
    parser.add_argument("--seconds", type=float, default=30, help="about how long all are timed")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of the thread that runs, for a machine that is busy",
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = torch.rand(asked.images, 3, asked.side, asked.side)
    pixels *= torch.linspace(0.1, 1, asked.images)[:, None, None, None]  # so that answers differ
    found = [joined(one, pixels) for one in CASCADES]
    clock = time.thread_time if asked.cpu_time else time.perf_counter
    table, measured = timed(
        [member for one in found for member in one.members],
        [runs_of(one.net, pixels) for one in found],
        asked.seconds,
        clock,
        [unit for one in found for unit in resizing(one)],
    )
    for one, took in zip(found, measured, strict=True):
        names = " > ".join(member.candidate.family.name for member in one.members)
        said, ends = one.predicted(table), one.stages.bincount(minlength=len(one.members)).tolist()
        print(f"{names:45} end {ends}  {took:.3f} ms  predicted {said:.3f}  {said / took:.2f}")


if __name__ == "__main__":
    main()
