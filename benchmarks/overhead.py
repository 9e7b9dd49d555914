"""What the driver costs a trial: wall time of a study whose training is a sleep, with everything on.

A trial is `--epochs` epochs that sleep; tables, sampler and MLflow run as in a real study. The driver's time a trial is
the study's wall time without the sleeps, over a window of trials before 10, 100 and 200, with and without MLflow.

    python benchmarks/overhead.py                                # about three minutes
    python benchmarks/overhead.py --stored 1000 --trials 30      # a study that has a thousand finished trials already
    python benchmarks/overhead.py --json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from benchmarks.made_up import POINTS, REFERENCE, curve, epoch_values, fill, made_up_study
from search.run.books import Books
from search.run.driver import Driver
from search.run.follower import NoFollower
from search.run.job import Event, Job, Outcome
from search.run.optuna_mirror import mirror_for
from search.run.progress import Progress
from search.run.publish import Publisher
from search.run.take_up import take_up
from search.run.time_spent import TimeSpent
from search.schedule.scheduler_for import scheduler_for
from spaces.contract.task import Task
from storage.settings import Settings
from storage.store import Store
from trainers.fit import EpochResult

TASK = Task(channels=1, height=8, width=8, classes=10)
MARKS, WINDOW = (10, 100, 200), 10


class Sleeper:
    """An engine whose training sleeps; everything it hands back has the size of the real thing."""

    slots = 1
    shared = False

    def __init__(self, seconds: float) -> None:
        self.seconds, self.slept = seconds, 0.0
        self.jobs: deque[tuple[Job, Iterator[Event]]] = deque()
        self.finished: list[float] = []  # wall-clock minus sleep, at the end of each trial

    def submit(self, job: Job) -> None:
        self.jobs.append((job, self._events(job)))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        if not self.jobs:
            return None
        job, events = self.jobs[0]
        event = next(events)
        if isinstance(event, Outcome):
            self.jobs.popleft()
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        raise AssertionError("its trainings are not measured on the way")

    def close(self) -> None:
        self.jobs.clear()

    def _events(self, job: Job) -> Iterator[Event]:
        draw = random.Random(job.number)
        for epoch in range(job.epochs):
            start = time.perf_counter()
            time.sleep(self.seconds / job.epochs)
            self.slept += time.perf_counter() - start
            yield EpochResult(epoch + 1, *epoch_values(draw))
        self.finished.append(time.perf_counter() - self.slept)
        yield Outcome(
            curve(draw),
            270_000,
            40_000_000,
            {"device": "none"},
            self.seconds,
        )


def run(
    folder: Path, trials: int, epochs: int, seconds: float, mlflow: bool, stored: int
) -> list[float]:
    """Milliseconds of driver time of each trial."""
    settings = Settings.model_validate({"storage": {"folder": folder}})
    store = Store.open(settings.database_url)
    spec = made_up_study(store, "overhead", stored + trials, epochs)
    fill(store, spec, stored)
    plan = scheduler_for(spec, TASK, REFERENCE)
    storage = optuna.storages.RDBStorage(settings.optuna_url)
    books = Books(store, spec.study, spec.costs, mirror_for(storage, store, spec))
    take_up(plan, books)
    engine = Sleeper(seconds)
    with Progress(Console(quiet=True), spec.study, trials, 1) as progress:
        follower = Publisher(store, settings, spec, progress.say) if mlflow else NoFollower()
        driver = Driver(
            spec=spec,
            plan=plan,
            books=books,
            time=TimeSpent(store, spec.study),
            engine=engine,
            progress=progress,
            follower=follower,
            checkpoints=str(folder),
        )
        if isinstance(follower, Publisher):
            follower.start()
            follower.wait_until_open()
        driver.run()
        if isinstance(follower, Publisher):
            follower.close(600)
    ends = engine.finished
    return [1000 * (b - a) for a, b in pairwise(ends)]


def compare(trials: int, epochs: int, seconds: float, stored: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "stored": stored,
        "trials": trials,
        "epochs": epochs,
        "sleep_seconds_a_trial": seconds,
    }
    for name, mlflow in (("without_mlflow", False), ("with_mlflow", True)):
        with tempfile.TemporaryDirectory() as folder:
            took = run(Path(folder), trials, epochs, seconds, mlflow, stored)
        marks = [m for m in MARKS if m <= trials]
        at = {str(m): statistics.median(took[max(0, m - WINDOW - 1) : m - 1]) for m in marks}
        result[name] = {"median_ms_a_trial": statistics.median(took), "median_ms_around_trial": at}
    result["machine"] = (
        f"{platform.machine()}, Python {platform.python_version()}, optuna {optuna.__version__}"
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="that a trial sleeps")
    parser.add_argument(
        "--stored", type=int, default=0, help="finished trials that the study begins with"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = compare(args.trials, args.epochs, args.seconds, args.stored)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    after = (
        f"after {args.stored} finished ones, {POINTS} points each"
        if args.stored
        else f"{POINTS} points each"
    )
    print(
        f"{result['machine']}; {args.trials} trials of {args.epochs} epochs, {args.seconds} s of sleep each, {after}"
    )
    for name in ("without_mlflow", "with_mlflow"):
        row = ", ".join(
            f"{ms:.0f} ms at {mark}" for mark, ms in result[name]["median_ms_around_trial"].items()
        )
        print(
            f"{name.replace('_', ' '):<16} median {result[name]['median_ms_a_trial']:.0f} ms a trial; {row}"
        )


if __name__ == "__main__":
    main()
