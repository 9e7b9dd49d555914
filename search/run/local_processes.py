"""Trials in worker processes on this machine, each on its own GPU where there are enough."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from search.run.gpu_room import GpuRoom
from search.run.job import Event, Failure, Job, Outcome, Rung
from search.run.mps import Mps
from search.run.watch import TrialLimits
from search.run.worker_process import WorkerProcess, workers_context
from storage.records import training_text

logger = logging.getLogger(f"dynafront.{__name__}")

FAULT = "CUDA error"
LOOK_SECONDS = 1.0  # between two looks at whether trainings are within their limits


class LocalProcesses:
    """Worker processes, started once and reused; worker k sees GPU k modulo their number, or the k-th group of GPUs.

    One whose training goes beyond the `limits` is killed, and the next job gets a new one. With a `room` a job goes to
    the GPU that has room for it, and waits while none has; those behind it wait too, or a large one would for ever.
    """

    def __init__(
        self,
        workers: int,
        limits: TrialLimits | None = None,
        gpus_per_trial: int = 1,
        room: GpuRoom | None = None,
        mps: Mps | None = None,
    ) -> None:
        self.slots = workers
        self._limits = limits or TrialLimits()
        if gpus_per_trial > 1:  # torch would warn on stderr whenever a step has used all parameters
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        self._context = workers_context()
        self._gpus = grouped(visible_gpus(), gpus_per_trial)
        self.room, self._mps = room, mps
        self._say: Callable[[str], None] = logger.info
        self._waiting: deque[Job] = deque()
        self._workers: list[WorkerProcess | None] = [None] * workers
        self._places = [index % len(self._gpus) if self._gpus else 0 for index in range(workers)]
        self._looked = time.monotonic()

    @property
    def shared(self) -> bool:
        """Whether several trainings at once share a GPU, or the machine where there is none."""
        return self.slots > max(1, len(self._gpus))

    @property
    def has_room(self) -> bool:
        """Whether no job waits for room on a GPU."""
        return not self._waiting

    @property
    def shares_machine(self) -> bool:
        return self.slots > 1

    def open(self, say: Callable[[str], None]) -> None:
        if self._mps is not None:
            self._mps.start(self.slots, say)

    def say_on(self, say: Callable[[str], None]) -> None:
        self._say = say

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._begin_waiting()
        if self._waiting:
            gb = job.gpu_bytes / 1e9
            logger.info("%s waits until a GPU has %.1f GB for it", training_text(*job.name), gb)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        self._begin_waiting()
        if (ended := self._beyond_limits()) is not None:
            return ended
        busy = {w.pipe: (i, w) for i, w in self._busy()}
        ready = wait(list(busy), timeout)
        if not ready:
            return None
        index, worker = busy[ready[0]]  # type: ignore[index]
        job = worker.job
        assert job is not None
        try:
            event = worker.received()
        except (EOFError, OSError):
            self._workers[index] = None
            worker.ended()
            self._release(job)
            death = worker.death
            logger.warning("worker %d: %s", index, death.error)
            self._leave_mps(worker)
            return job, death
        if isinstance(event, Outcome | Failure):
            self._release(job)
        # it leaves, and must not be given the next job on its way out
        if isinstance(event, Failure) and self._gpus:
            self._workers[index] = None
            worker.ended()
            if worker.under_mps and is_gpu_fault(event):
                self._leave_mps(worker)
                event = replace(event, crashed=True)  # the fault of another one ends it so
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        worker = next(
            (w for _, w in self._busy() if w.job is not None and w.job.name == job.name), None
        )
        if worker is None:  # it died since, which next_event has said
            return
        worker.sent(go_on)  # and if that fails next_event will say so
        if not go_on:
            worker.job = None
            self._release(job)

    def close(self) -> None:
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.ended()
        self._workers = [None] * self.slots
        self._waiting.clear()
        if self.room is not None:
            self.room.close()
        if self._mps is not None:
            self._mps.close()

    def _begin_waiting(self) -> None:
        """Let the jobs that wait begin, one after the other, as long as there is room."""
        while self._waiting and (index := self._index_for(self._waiting[0])) is not None:
            job = self._waiting.popleft()
            if (worker := self._workers[index]) is not None and worker.under_mps != self._has_mps:
                self._end_idle(index)
            worker = self._workers[index]
            if worker is None or not worker.begin(job):
                worker = self._workers[index] = self._started(index)
                worker.begin(job)

    def _index_for(self, job: Job) -> int | None:
        """The worker that is to train the job, free and on the GPU that has room for it; None: there is none."""
        free = [i for i, one in enumerate(self._workers) if one is None or one.job is None]
        if self.room is None or not free or not self.room.look():
            return free[0] if free else None
        if (place := self.room.place(job.name, job.gpu_bytes)) is None:
            return None
        here = [i for i in free if self._workers[i] is not None and self._places[i] == place]
        index = (here + [i for i in free if self._workers[i] is None] + free)[0]
        if self._places[index] != place:
            self._end_idle(index)
            self._places[index] = place
        return index

    def _end_idle(self, index: int) -> None:
        """The next job of this worker needs a new process: it is on another GPU, or no client of MPS any more."""
        if (worker := self._workers[index]) is not None:
            worker.process.terminate()
            worker.ended()
            self._workers[index] = None

    @property
    def _has_mps(self) -> bool:
        return self._mps is not None and self._mps.active

    def _leave_mps(self, worker: WorkerProcess) -> None:
        """A process under MPS ended badly, which may take others down: new ones do without."""
        if self._mps is not None and self._mps.active and worker.under_mps:
            self._mps.leave()
            self._say("a training ended badly under NVIDIA's MPS; the search goes on without it")

    def _release(self, job: Job) -> None:
        if self.room is not None:
            self.room.release(job.name)

    def _busy(self) -> Iterator[tuple[int, WorkerProcess]]:
        for index, worker in enumerate(self._workers):
            if worker is not None and worker.job is not None:
                yield index, worker

    def _beyond_limits(self) -> tuple[Job, Failure] | None:
        """The first training that went beyond the limits, whose process is killed; looked for once in a while."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        for index, worker in self._busy():
            job, failure = worker.job, worker.look()
            if failure is not None and job is not None:
                logger.warning("worker %d is killed: %s", index, failure.error)
                self._workers[index] = None
                worker.kill()
                worker.pipe.close()
                self._release(job)
                self._leave_mps(worker)
                return job, replace(failure, epoch=worker.failed_in)
        return None

    def _started(self, index: int) -> WorkerProcess:
        gpu = self._gpus[self._places[index]] if self._gpus else None
        worker = WorkerProcess(self._context, f"worker-{index}", gpu, self._limits)
        worker.under_mps = self._has_mps
        logger.info("worker %d is process %d, GPU %s", index, worker.process.pid, gpu or "none")
        return worker


def events_apart(job: Job, limits: TrialLimits) -> Generator[Event, None, None]:
    """What `search.run.worker.events` yields, from a process of its own; after a Rung it goes on when it is asked."""
    engine = LocalProcesses(1, limits)
    try:
        engine.submit(job)
        yield from events_until_the_end(engine, job, LOOK_SECONDS, lambda: True)
    finally:
        engine.close()


def events_until_the_end(
    engine: LocalProcesses, job: Job, look_seconds: float, goes_on: Callable[[], bool]
) -> Generator[Event, None, None]:
    """Events of the only job of an engine; after a Rung `goes_on` is asked, and False ends it."""
    while True:
        if (happened := engine.next_event(look_seconds)) is None:
            continue
        _, event = happened
        yield event
        if isinstance(event, Outcome | Failure):
            return
        if isinstance(event, Rung):
            answer = goes_on()
            engine.answer(job, answer)
            if not answer:
                return


def is_gpu_fault(failure: Failure) -> bool:
    """Whether CUDA says so, and no memory is missing: the training itself may have done nothing wrong."""
    return FAULT in failure.error and not failure.memory


def grouped(gpus: Sequence[str], each: int) -> list[str]:
    """The GPUs that workers see, so many each, as CUDA_VISIBLE_DEVICES names them; those left over are in none."""
    firsts = range(0, len(gpus) - each + 1, each)
    return [",".join(gpus[first : first + each]) for first in firsts]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu.strip()]
    return [str(i) for i in range(gpus_found())]


def gpus_found() -> int:
    """How many PyTorch finds here."""
    import torch

    return torch.cuda.device_count()
