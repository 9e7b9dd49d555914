"""What measured threads give: a training with all cores, with one, and with as many as a search would choose.

For each network: milliseconds of a training step (the networks' own objective, forward, backward and SGD) with each
number of threads, in turns, medians over rounds; what `trainers.thread_choice` chose, how long that took, and the time
of a step with all cores over the time with the chosen number. Only the ratios of one run mean anything.

    python benchmarks/threads.py
    python benchmarks/threads.py --rounds 20 --most 8
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.gpu import step_of
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.cores import cores
from trainers.execution import Execution, random_images
from trainers.latency import torch_threads
from trainers.thread_choice import counts, measured_threads


class Net(NamedTuple):
    name: str
    backbone: str
    width: float
    batch: int
    channels: int
    side: int


NETWORKS = (
    Net("ResNet-8 x 0.25, 8 px", "resnet8", 0.25, 32, 1, 8),
    Net("ResNet-8, 8 px", "resnet8", 1.0, 128, 1, 8),
    Net("ResNet-20, 32 px", "resnet20", 1.0, 128, 3, 32),
)
STEPS = 5  # in a row, of each number of threads, after one that is not timed


def main() -> None:
    args = arguments()
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {cores()} cores, torch {torch.__version__}, n = {args.rounds} rounds")
    for one in NETWORKS:
        print(row(one, args), flush=True)


def row(of: Net, args: argparse.Namespace) -> str:
    """One network's line."""
    task = Task(channels=of.channels, height=of.side, width=of.side, classes=10)
    values = {"backbone": of.backbone, "width": of.width, "batch": of.batch}
    candidate = Candidate.of(family("gated_resnet"), values, 1)
    net = candidate.build(task, 0)
    candidates = counts(args.most)
    taken: dict[int, list[float]] = {threads: [] for threads in candidates}
    step = step_of(net, random_images(net, of.batch, "cpu"))
    for _ in range(args.rounds):
        for threads in candidates:
            with torch_threads(threads):
                step()
                started = time.perf_counter()
                for _ in range(STEPS):
                    step()
                taken[threads].append(1e3 * (time.perf_counter() - started) / STEPS)
    started, chosen = time.perf_counter(), []
    for _ in range(args.choices):
        chosen.append(measured_threads(net, candidate.recipe, Execution(), args.most))
    choosing = (time.perf_counter() - started) / args.choices
    medians = {threads: statistics.median(own) for threads, own in taken.items()}
    times = ", ".join(f"{threads}: {medians[threads]:.1f} ms" for threads in candidates)
    usual = statistics.mode(chosen)
    ratios = [all_of / own for all_of, own in zip(taken[args.most], taken[usual], strict=True)]
    low, high = min(ratios), max(ratios)
    return (
        f"{of.name:22} {times}; chosen {chosen} in {choosing:.1f} s each; "
        f"all over chosen {medians[args.most] / medians[usual]:.2f} ({low:.2f} to {high:.2f})"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=cores(), help="threads")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--choices", type=int, default=3, help="how often to choose")
    return parser.parse_args()


if __name__ == "__main__":
    main()
