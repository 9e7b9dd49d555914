"""Trials an hour on a Ray cluster of 1, 2, 4 and 8 nodes, all of them simulated on this machine.

    python benchmarks/scale.py --seconds 30

Trainings sleep, so that one machine can play all nodes. What is measured is what the driver and Ray add to them: a real
study in real tables, decided by the sampler, submitted, placed, told and written down. Each node is a raylet with one
place. Time counts from when all places are there to the end of the last training, so without the start of Ray.
`share` is trials an hour and node over those of the smallest cluster, `of_sleep` the share of the time that the nodes
trained.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from search.objectives import Reference
from search.run.books import Books
from search.run.driver import Driver
from search.run.job import EpochResult, Event, Job, Outcome
from search.run.optuna_mirror import mirror_for, optuna_storage
from search.run.progress import Progress
from search.run.ray_engine import RayEngine
from search.run.ray_trainer import Trainer, here
from search.run.time_spent import TimeSpent
from search.run.watch import TrialLimits
from search.schedule.scheduler_for import scheduler_for
from search.spec import parse_study
from spaces.contract.task import Task
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point
from tests.search.run.ray_nodes import RayNodes

STUDY = """\
study: scale
data: digits
families: [gated_resnet]
warm_start: false
early_stopping: false
cascades: false
budget: {{trials: {trials}, epochs: {epochs}}}
run: {{engine: ray, address: "{address}", device: cpu}}
"""
EPOCHS = 5
TASK = Task(channels=1, height=8, width=8, classes=10)


def sleeper(seconds: float) -> type[Trainer]:
    """What tells all that a training of so many seconds tells, and computes nothing."""

    class Sleeper(Trainer):
        def __init__(self, limits: TrialLimits, gpus: int, folder: str, verbosity: int) -> None:
            self._node = here(folder)

        def train(self, job: Job) -> Iterator[Event]:
            for epoch in range(1, EPOCHS + 1):
                time.sleep(seconds / EPOCHS)
                yield EpochResult(epoch, {"val/accuracy": 0.5, "val/macs": 1e6}, {})
            draw = random.Random(job.number)
            points = [operating_point(draw.uniform(0.5, 0.9), draw.uniform(1e5, 1e6))]
            yield Outcome(points, 10, 1_000_000, {"device": "cpu"}, seconds)

    return Sleeper


def seconds_of(address: str, nodes: int, rounds: int, seconds: float, folder: Path) -> float:
    """How long so many rounds of trainings take, one on each node."""
    text = STUDY.format(trials=rounds * nodes, epochs=EPOCHS, address=address)
    spec = parse_study(text, "scale.yml")
    settings = Settings.model_validate({"storage": {"folder": folder}})
    store, reference = Store.open(settings.database_url), Reference(accuracy=0.1, macs=5e7)
    store.add_study(spec.study, spec.model_dump(mode="json"), text, reference.as_dict())
    mirror = mirror_for(optuna_storage(settings.optuna_url), store, spec)
    engine = RayEngine(spec.run, nodes, sleeper(seconds))
    with Progress(Console(quiet=True), spec.study, spec.budget.trials, nodes) as progress:
        driver = Driver(
            spec=spec,
            plan=scheduler_for(spec, TASK, reference),
            books=Books(store, spec.study, spec.costs, mirror),
            time=TimeSpent(store, spec.study),
            engine=engine,
            progress=progress,
            checkpoints=str(folder),
        )
        while engine.slots < nodes:
            time.sleep(0.1)
        started = time.monotonic()
        driver.run()
        return time.monotonic() - started


def measured(sizes: Sequence[int], rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each number of nodes, ascending; nodes are added to one cluster."""
    cluster, best = RayNodes(cpus=0), 0.0
    try:
        for before, nodes in zip((0, *sizes), sizes, strict=False):
            for _ in range(nodes - before):
                cluster.add(cpus=1)
            if not before:  # what the driver imports for its first suggestion is not of any size
                with tempfile.TemporaryDirectory() as folder:
                    seconds_of(cluster.address, nodes, 2, 1.0, Path(folder))
            with tempfile.TemporaryDirectory() as folder:
                took = seconds_of(cluster.address, nodes, rounds, seconds, Path(folder))
            hourly = 3600 * rounds * nodes / took
            best = best or hourly / nodes
            yield {
                "nodes": nodes,
                "trials": rounds * nodes,
                "seconds": round(took, 1),
                "trials_an_hour": round(hourly, 1),
                "share": round(hourly / nodes / best, 3),
                "of_sleep": round(rounds * seconds / took, 3),
            }
    finally:
        cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8], help="ascending")
    parser.add_argument("--rounds", type=int, default=3, help="trainings on each node")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a training sleeps")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    for row in measured(given.nodes, given.rounds, given.seconds):
        if given.json:
            print(json.dumps(row), flush=True)
        else:
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
