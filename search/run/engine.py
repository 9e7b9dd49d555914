"""Where trials run: in this process, in worker processes on this machine, or on a Ray cluster.

One driver decides and writes; workers only train. A worker that dies gives a Failure marked `crashed`, and its
trial can be submitted again: it continues from its last checkpoint. A training that yields a Rung waits for an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Protocol

from search.engine_keys import check_workers
from search.run.gpu_memory import GpuMemory
from search.run.gpu_room import GpuRoom
from search.run.job import Event, Failure, Job, Notice, Outcome, Rung
from search.run.local_processes import LocalProcesses, events_apart, gpus_found, visible_gpus
from search.run.mps import Mps
from search.run.number_formats import Measures, Probe
from search.run.watch import TrialLimits
from search.run.worker import events
from search.study_parts import Run
from storage.records import training_text

Say = Callable[[str], None]


class Engine(Protocol):
    """Runs jobs."""

    @property
    def slots(self) -> int:
        """How many jobs at once; it may change at any time."""
        ...

    @property
    def shared(self) -> bool:
        """Whether several trainings at once share a device, so that one may have to wait for the others to end."""
        ...

    def submit(self, job: Job) -> None: ...

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        """The next thing that happened, or None when nothing did within `timeout` seconds."""
        ...

    def answer(self, job: Job, go_on: bool) -> None:
        """Once for each Rung: let the job train on, or end it here, which frees its slot and gives no more events."""
        ...

    def close(self) -> None:
        """Stop whatever runs. Checkpoints stay."""
        ...


class StudyEngine(Engine, Protocol):
    """One that a search opens, before it drives the engine."""

    @property
    def shares_machine(self) -> bool:
        """As `shared`, of the memory of the machine."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether one more job could begin at once, as far as that is known: none waits for room on a GPU."""
        ...

    def open(self, say: Say) -> None:
        """Be ready for jobs; `say` is told what takes seconds."""
        ...

    def say_on(self, say: Say) -> None:
        """From now on `say` is told what keeps all trainings waiting."""
        ...


def engine_for(workers: int, run: Run, trainings: int | None = None) -> StudyEngine:
    """Where a study's trials run: in so many worker processes, or with none in this process, or on a Ray cluster.

    `trainings`: how many there will be at most; a cluster is asked for no more places. Raises ValueError for a bound
    that only a process of its own can be held to, and where Ray is not installed.
    """
    if run.uses_ray:
        from search.run.ray_engine import RayEngine

        return RayEngine(run, trainings or run.max_trials)
    if workers:
        room = room_for(workers, run)
        mps = Mps() if room is not None and run.mps == "auto" else None
        return LocalProcesses(workers, TrialLimits.of(run), run.gpus, room, mps, run.fused)
    check_workers(run, workers)
    return InProcess(TrialLimits.of(run))


def room_for(workers: int, run: Run) -> GpuRoom | None:
    """The GPUs that so many workers share; None where each has its own, or several, or there is none."""
    if run.device == "cpu" or run.gpus > 1 or workers <= (count := len(visible_gpus())):
        return None
    return GpuRoom(GpuMemory()) if count and count == gpus_found() else None


def probe_for(engine: Engine, run: Run, check: Callable[[], None] = lambda: None) -> Measures:
    """What measures number formats where the engine trains; `check` raises to end a wait for a place to do it."""
    if run.uses_ray:
        from search.run.ray_engine import RayEngine
        from search.run.ray_probe import ClusterProbe

        assert isinstance(engine, RayEngine)
        return ClusterProbe(engine, check)
    return Probe()


class InProcess:
    """Trains in this process, one trial at a time: the easiest to debug, and the best on one small machine.

    A job that is `apart` has a process of its own, within the `limits`.
    """

    slots = 1
    shared = shares_machine = False
    has_room = True

    def __init__(self, limits: TrialLimits | None = None) -> None:
        self._limits = limits or TrialLimits()
        self._waiting: deque[tuple[Job, Generator[Event, None, None]]] = deque()
        self._unanswered = False

    def open(self, say: Say) -> None:
        pass

    def say_on(self, say: Say) -> None:
        pass

    def submit(self, job: Job) -> None:
        self._waiting.append((job, self._apart(job) if job.apart else events(job)))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        if not self._waiting or self._unanswered:
            return None
        job, running = self._waiting[0]
        event = next(running)
        self._unanswered = isinstance(event, Rung)
        if isinstance(event, Outcome | Failure):
            self._waiting.popleft()
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        assert self._unanswered
        assert self._waiting[0][0].name == job.name
        self._unanswered = False
        if not go_on:
            self._waiting.popleft()[1].close()

    def close(self) -> None:
        self._waiting.clear()
        self._unanswered = False

    def _apart(self, job: Job) -> Generator[Event, None, None]:
        name = training_text(*job.name)
        yield Notice(f"{name}: the search ended while it trained; now it has a process of its own")
        yield from events_apart(job, self._limits)
