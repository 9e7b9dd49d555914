"""What the driver of a study costs a trial, by part, and how busy it keeps many workers.

Trainings are made up. Where they take no time, what is measured is the driver alone: CPU seconds of its threads. How
busy it would keep W workers whose trials last so long is simulated from that: one server, the driver, hands out trials
one after the other, as if no two of its threads ever ran side by side. Where they sleep, `kept_busy` measures that
share.
"""

from __future__ import annotations

import heapq
import random
import resource
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.made_up import REFERENCE, curve, epoch_values, made_up_study
from search.run.books import Books
from search.run.driver import Driver
from search.run.follower import NoFollower
from search.run.job import Event, Job, Outcome
from search.run.mirror_process import MirrorProcess, mirror_beside
from search.run.optuna_mirror import OptunaMirror
from search.run.progress import Progress
from search.run.publisher_process import PublisherProcess
from search.run.ranking_process import ranking_beside
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
MADE_UP = "made up"  # what trainings show here, which is no work of the driver
ROUNDS = 20  # trials of each worker
MADE = 256  # curves, made before they are needed: making one takes as long as the driver does
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
        if not self._jobs:
            return None
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


class Asleep:
    """An engine of many slots whose trainings last so many seconds, 20 % more or less, and only sleep."""

    shared = False

    def __init__(self, slots: int, seconds: float) -> None:
        self.slots, self._seconds = slots, seconds
        self._made_up = [curve(random.Random(number)) for number in range(MADE)]
        self._order = count()  # of events that are due at the same time
        self._due: list[tuple[float, int, Job, Event]] = []  # a heap, the next event first
        self.trained: list[tuple[float, float]] = []  # when each training began and ended

    def submit(self, job: Job) -> None:
        draw, begin = random.Random(job.number), time.monotonic()
        lasts = self._seconds * draw.uniform(1 - SPREAD, 1 + SPREAD)
        for epoch in range(1, job.epochs + 1):
            at = begin + lasts * epoch / job.epochs
            self._add(at, job, EpochResult(epoch, *epoch_values(draw)))
        points = self._made_up[job.number % MADE]
        self._add(begin + lasts, job, Outcome(points, 270_000, 40_000_000, {}, lasts))
        self.trained.append((begin, begin + lasts))

    def _add(self, at: float, job: Job, event: Event) -> None:
        heapq.heappush(self._due, (at, next(self._order), job, event))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        wait = self._due[0][0] - time.monotonic() if self._due else timeout + 1
        if wait > timeout:
            time.sleep(timeout)
            return None
        time.sleep(max(0.0, wait))
        return heapq.heappop(self._due)[2:]

    def answer(self, job: Job, go_on: bool) -> None:
        raise AssertionError("its trainings have no rungs")

    def close(self) -> None:
        self._due.clear()


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
    """CPU seconds of the current thread in some methods, by part of the driver."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def watching(self, methods: Sequence[tuple[type, str, str]]) -> Iterator[None]:
        """Count these methods, each a class, a name and a part."""
        own = [(owner, name, getattr(owner, name)) for owner, name, _ in methods]
        for (owner, name, method), (_, _, part) in zip(own, methods, strict=True):
            setattr(owner, name, self._counted(method, part))
        try:
            yield
        finally:
            for owner, name, method in own:
                setattr(owner, name, method)

    def _counted(self, method: Callable[..., Any], part: str) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[part] += time.thread_time() - begin

        return counted


PARTS: tuple[tuple[type, str, str], ...] = (
    (Asking, "suggestion", "sampler"),
    (Asking, "observe", "sampler observes"),
    *((Books, name, "tables") for name in ("record", "start", "epochs", "end_all", "ends")),
    (MirrorProcess, "_send", "Optuna's mirror"),
    (OptunaMirror, "_write_waiting", "Optuna's mirror"),
    (Instant, "next_event", MADE_UP),
)


def driven(
    folder: Path, trials: int, slots: int, *, url: str | None = None, mlflow: bool = False
) -> dict[str, Any]:
    """CPU milliseconds a trial of each part of the driver, and its memory, over a study of so many trials."""
    settings = Settings.model_validate({"storage": {"folder": folder, "database": url}})
    engine, meter = Instant(slots), Meter()
    with meter.watching(PARTS):  # before the scheduler keeps methods of its parts
        whole, seconds = _drive(settings, engine, trials, mlflow=mlflow)
    whole -= meter.seconds.pop(MADE_UP)
    parts = dict(meter.seconds) | {"the rest": whole - sum(meter.seconds.values())}
    return {
        "trials": trials,
        "slots": slots,
        "cpu_ms_a_trial": 1000 * whole / trials,
        "wall_ms_a_trial": 1000 * seconds / trials,
        "parts_ms": {name: 1000 * taken / trials for name, taken in parts.items()},
        "resident_mb": engine.resident,
    }


def kept_busy(folder: Path, slots: int, seconds: float, *, url: str | None = None) -> float:
    """The share of the time that so many workers train, measured: their trials last so many seconds and sleep.

    Over twenty trials a worker, the first two left out, for all begin at once.
    """
    settings = Settings.model_validate({"storage": {"folder": folder, "database": url}})
    engine = Asleep(slots, seconds)
    _drive(settings, engine, ROUNDS * slots, mlflow=False)
    return busy_share(engine.trained, slots)


def _drive(
    settings: Settings, engine: Instant | Asleep, trials: int, *, mlflow: bool
) -> tuple[float, float]:
    """Search a study of its own to its end: CPU seconds and seconds that it took, once all processes had started."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database_url)
    spec = made_up_study(store, f"driven-{trials}-{engine.slots}", trials, EPOCHS)
    ranks = ranking_beside(spec, TASK, REFERENCE, engine.slots, print)
    plan = scheduler_for(spec, TASK, REFERENCE, slots=engine.slots, ranks=ranks)
    mirror = mirror_beside(engine.slots, store, settings, spec, print)
    books = Books(store, spec.study, spec.costs, mirror)
    take_up(plan, books)
    with Progress(Console(quiet=True), spec.study, trials, engine.slots) as progress:
        publisher = PublisherProcess(settings, spec, progress.say) if mlflow else None
        if publisher:
            publisher.start()
        driver = Driver(
            spec=spec,
            plan=plan,
            books=books,
            time=TimeSpent(store, spec.study),
            engine=engine,
            progress=progress,
            follower=publisher or NoFollower(),
            checkpoints=str(settings.folder),
        )
        begin, wall = time.process_time(), time.perf_counter()
        driver.run()
        whole, seconds = time.process_time() - begin, time.perf_counter() - wall
        if publisher:
            publisher.close(600)
    return whole, seconds


def utilisation(workers: int, trial_seconds: float, driver_seconds: float) -> float:
    """The share of their time that workers train, where one driver takes so long for each trial.

    Trials last 20 % more or less. Over twenty trials a worker, the first two left out, for all begin at once.
    """
    draw, now = random.Random(0), 0.0
    free = [0.0] * workers  # when each worker asks for its next trial
    trained: list[tuple[float, float]] = []
    for _ in range(workers * ROUNDS):
        now = max(now, heapq.heappop(free)) + driver_seconds
        ends = now + trial_seconds * draw.uniform(1 - SPREAD, 1 + SPREAD)
        trained.append((now, ends))
        heapq.heappush(free, ends)
    return busy_share(trained, workers)


def busy_share(trained: Sequence[tuple[float, float]], workers: int) -> float:
    """The share of the workers' time from the third round's first training until the last one begins.

    `trained`: when each training began and ended, in the order in which they began.
    """
    first, last = trained[2 * workers][0], trained[-1][0]
    busy = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in trained)
    return busy / (workers * (last - first))
