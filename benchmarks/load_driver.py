"""What the driver of a study costs a trial, by part, and how busy it keeps many workers.

Trainings are made up and take no time, so that what is measured is the driver alone: CPU seconds of its threads. How
busy it would keep W workers whose trials last so long is simulated from that: one server, the driver, hands out trials
one after the other, for Python runs one thread at a time.
"""

from __future__ import annotations

import heapq
import random
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.made_up import REFERENCE, curve, epoch_values, made_up_study
from search.run.books import Books
from search.run.driver import Driver
from search.run.follower import NoFollower
from search.run.job import Event, Job, Outcome
from search.run.optuna_mirror import OptunaMirror, mirror_for, optuna_storage
from search.run.progress import Progress
from search.run.publish import Publisher
from search.run.take_up import take_up
from search.run.time_spent import TimeSpent
from search.schedule.asking import Asking
from search.schedule.scheduler_for import scheduler_for
from spaces.contract.task import Task
from storage.settings import Settings
from storage.store import Store
from trainers.fit import EpochResult

TASK = Task(channels=1, height=8, width=8, classes=10)
EPOCHS = 3
MEMORY_AT = 100  # trials, after which memory should not grow any more
SPREAD = 0.2  # of the length of simulated trials, more or less


class Instant:
    """An engine of many slots whose trainings take no time."""

    shared = False

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._jobs: deque[tuple[Job, Iterator[Event]]] = deque()
        self.ended = 0
        self.resident: dict[int, float] = {}  # MB, after so many trials

    def submit(self, job: Job) -> None:
        self._jobs.append((job, _events(job)))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        """The trainings take turns, as they do side by side."""
        job, events = self._jobs.popleft()
        event = next(events)
        if isinstance(event, Outcome):
            self.ended += 1
            if self.ended % MEMORY_AT == 0:
                self.resident[self.ended] = resident_mb()
        else:
            self._jobs.append((job, events))
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        raise AssertionError("its trainings have no rungs")

    def close(self) -> None:
        self._jobs.clear()


def _events(job: Job) -> Iterator[Event]:
    draw = random.Random(job.number)
    for epoch in range(job.epochs):
        yield EpochResult(epoch + 1, *epoch_values(draw))
    yield Outcome(curve(draw), 270_000, 40_000_000, {"device": "none"}, 1.0)


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Meter:
    """CPU seconds of the current thread in some functions, by part; what one calls of another counts for that."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._patched: list[tuple[type, str, Any]] = []

    def watch(self, owner: type, name: str, part: str) -> None:
        """Count this method of a class, until `stop`."""
        own = getattr(owner, name)
        self._patched.append((owner, name, own))
        setattr(owner, name, self._counted(own, part))

    def stop(self) -> None:
        for owner, name, own in reversed(self._patched):
            setattr(owner, name, own)

    def _counted(self, own: Callable[..., Any], part: str) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return own(*args, **kwargs)
            finally:
                self.seconds[part] += time.thread_time() - begin

        return counted


PARTS: tuple[tuple[type, str, str], ...] = (
    (Asking, "suggestion", "sampler"),
    (Asking, "observe", "sampler observes"),
    *((Books, name, "tables") for name in ("record", "start", "epoch", "end", "trial", "deaths")),
    (OptunaMirror, "_unless_broken", "Optuna's mirror"),
    (Publisher, "_try", "MLflow"),
)


def driven(
    folder: Path, trials: int, slots: int, *, url: str | None = None, mlflow: bool = False
) -> dict[str, Any]:
    """CPU milliseconds a trial of each part of the driver, and its memory, over a study of so many trials."""
    settings = Settings.model_validate({"storage": {"folder": folder}})
    store = Store.open(url or settings.database_url)
    spec = made_up_study(store, f"driven-{trials}-{slots}", trials, EPOCHS)
    meter = Meter()  # before the scheduler keeps methods of its parts
    for owner, name, part in PARTS:
        meter.watch(owner, name, part)
    plan = scheduler_for(spec, TASK, REFERENCE)
    storage = optuna_storage(url or settings.optuna_url)
    books = Books(store, spec.study, spec.costs, mirror_for(storage, store, spec))
    take_up(plan, books)
    engine = Instant(slots)
    begin, wall = time.process_time(), time.perf_counter()
    try:
        with Progress(Console(quiet=True), spec.study, trials, slots) as progress:
            follower = Publisher(store, settings, spec, progress.say) if mlflow else NoFollower()
            if isinstance(follower, Publisher):
                follower.start()
            Driver(
                spec=spec,
                plan=plan,
                books=books,
                time=TimeSpent(store, spec.study),
                engine=engine,
                progress=progress,
                follower=follower,
                checkpoints=str(folder),
            ).run()
            if isinstance(follower, Publisher):
                follower.close(600)
    finally:
        meter.stop()
    whole = time.process_time() - begin
    parts = dict(meter.seconds) | {"the rest": whole - sum(meter.seconds.values())}
    return {
        "trials": trials,
        "slots": slots,
        "cpu_ms_a_trial": 1000 * whole / trials,
        "wall_ms_a_trial": 1000 * (time.perf_counter() - wall) / trials,
        "parts_ms": {name: 1000 * seconds / trials for name, seconds in parts.items()},
        "resident_mb": engine.resident,
    }


def utilisation(workers: int, trial_seconds: float, driver_seconds: float) -> float:
    """The share of their time that workers train, where one driver takes so long for each trial.

    Trials last 20 % more or less; over twenty trials a worker, without the first, while all begin at once.
    """
    draw, now, busy, begun = random.Random(0), 0.0, 0.0, 0
    free = [0.0] * workers  # when each worker asks for its next trial
    start = 0.0
    for begun in range(workers * 20):
        asked = heapq.heappop(free)
        now = max(now, asked) + driver_seconds
        length = trial_seconds * draw.uniform(1 - SPREAD, 1 + SPREAD)
        if begun == workers:
            start = now
        busy += length if begun >= workers else 0.0
        heapq.heappush(free, now + length)
    return min(1.0, busy / (workers * (now - start)))
