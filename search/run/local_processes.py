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
from search.run.held_jobs import HeldJobs
from search.run.job import Event, Failure, Job, Outcome, Rung
from search.run.mps import Mps
from search.run.watch import TrialLimits
from search.run.worker_process import WorkerProcess, workers_context
from storage.records import training_text

logger = logging.getLogger(f"dynafront.{__name__}")

FAULTS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")  # how torch says that a GPU did not compute
LOOK_SECONDS = 1.0  # between two looks at whether trainings are within their limits
IDLE_SECONDS = 1.0  # that a process with nothing to train stays where trainings share GPUs


class LocalProcesses:
    """Worker processes, started once and reused; worker k sees GPU k modulo their number, or the k-th group of GPUs.

    One whose training goes beyond the `limits` is killed, and the next job gets a new one. With a `room` a job goes to
    the GPU that has room for it, and waits while none has; those behind it wait too, or a large one would for ever.
    There a process ends soon after its last job: it keeps some of its GPU, which would count as that of others.
    With `fused` above 1 a process takes up to so many jobs of one kind, see `search.run.held_jobs`; limits are then of
    all of them together, and a GPU has room for them all.
    """

    def __init__(
        self,
        workers: int,
        limits: TrialLimits | None = None,
        gpus_per_trial: int = 1,
        room: GpuRoom | None = None,
        mps: Mps | None = None,
        fused: int = 1,
    ) -> None:
        self.slots = workers * fused
        self._limits = limits or TrialLimits()
        if gpus_per_trial > 1:  # torch would warn on stderr whenever a step has used all parameters
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        self._context = workers_context()
        self._gpus = grouped(visible_gpus(), gpus_per_trial)
        self.room, self._mps = room, mps
        self._say: Callable[[str], None] = logger.info
        self._end_measuring: Callable[[], None] = lambda: None
        self._held = HeldJobs(fused)
        self._group: list[Job] = []  # that is to begin next, and waits for room on a GPU
        self._said: deque[tuple[Job, Event]] = deque()  # that is to be told next
        self._workers: list[WorkerProcess | None] = [None] * workers
        self._places = [index % len(self._gpus) if self._gpus else 0 for index in range(workers)]
        self._looked = time.monotonic()

    @property
    def shared(self) -> bool:
        """Whether several trainings at once share a GPU, or the machine where there is none."""
        return self.slots > max(1, min(len(self._workers), len(self._gpus)))

    @property
    def has_room(self) -> bool:
        """Whether no job waits for room on a GPU."""
        return not self._group

    @property
    def shares_machine(self) -> bool:
        return self.slots > 1

    def open(self, say: Callable[[str], None]) -> None:
        if self._mps is not None:
            self._mps.start(len(self._workers), say)

    def say_on(self, say: Callable[[str], None]) -> None:
        self._say = say

    def end_with_mps(self, end: Callable[[], None]) -> None:
        """Call `end` when MPS is left, and before it ends: it ends a process that measures there, as a client of it."""
        self._end_measuring = end

    def submit(self, job: Job) -> None:
        self._held.add(job)
        self._begin_held()
        if self._group:
            gb = job.gpu_bytes / 1e9
            logger.info("%s waits until a GPU has %.1f GB for it", training_text(*job.name), gb)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        self._begin_held()
        self._end_idle_ones()
        self._look_for_limits()
        if self._said:
            return self._said.popleft()
        busy = {w.pipe: (i, w) for i, w in self._busy()}
        if self._free() and not self._group:
            timeout = min(timeout, self._held.patience)
        ready = wait(list(busy), timeout)
        if not ready:
            return None
        index, worker = busy[ready[0]]  # type: ignore[index]
        try:
            job, event = worker.received()
        except (EOFError, OSError):
            worker.ended()
            death = worker.death
            logger.warning("worker %d: %s", index, death.error)
            self._lost(index, worker, death)
            return self._said.popleft()
        if isinstance(event, Outcome | Failure):
            self._release(job)
        self._let_go(index, worker)
        if isinstance(event, Failure) and worker.under_mps and is_gpu_fault(event):
            self._leave_mps(worker)
            event = replace(event, crashed=True)  # the fault of another one ends it so
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        found = next(((i, w) for i, w in self._busy() if job.name in w.jobs), None)
        if found is None:  # it died since, which next_event has said
            return
        index, worker = found
        worker.sent(go_on)  # and if that fails next_event will say so
        if not go_on:
            del worker.jobs[job.name]
            self._release(job)
            self._let_go(index, worker)

    def close(self) -> None:
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.ended()
        self._workers = [None] * len(self._workers)
        self._held.clear()
        self._group.clear()
        self._said.clear()
        if self.room is not None:
            self.room.close()
        if self._mps is not None:
            self._end_measuring()
            self._mps.close()

    def _begin_held(self) -> None:
        """Give free processes the jobs that have waited for others long enough, as long as there is room."""
        while free := self._free():
            if not self._group:
                under_way = sum(len(worker.jobs) for _, worker in self._busy())
                self._group = self._fitting(self._held.ready(room=self.slots - under_way))
            if not self._group or (index := self._index_for(self._group, free)) is None:
                return
            jobs, self._group = self._group, []
            if (worker := self._workers[index]) is not None and worker.under_mps != self._has_mps:
                self._end_idle(index)
            worker = self._workers[index]
            if worker is None or not worker.begin(jobs):
                worker = self._workers[index] = self._started(index)
                worker.begin(jobs)

    def _fitting(self, jobs: list[Job]) -> list[Job]:
        """As many of the jobs, which can train as one, as a GPU could have at once; the others are held on."""
        if len(jobs) < 2 or self.room is None or not self.room.look():
            return jobs
        count = self.room.fitting([job.gpu_bytes for job in jobs])
        self._held.put_back(jobs[count:])
        return jobs[:count]

    def _index_for(self, jobs: Sequence[Job], free: Sequence[int]) -> int | None:
        """The free worker that is to train the jobs, on the GPU that has room for all of them; None: there is none."""
        self._end_idle_ones()
        if self.room is None or not self.room.look():
            return free[0]
        place = self.room.place_together({job.name: job.gpu_bytes for job in jobs})
        if place is None:
            return None
        here = [i for i in free if self._workers[i] is not None and self._places[i] == place]
        index = (here + [i for i in free if self._workers[i] is None] + list(free))[0]
        if self._places[index] != place:
            self._end_idle(index)
            self._places[index] = place
        return index

    def _end_idle_ones(self) -> None:
        """End what has waited for a job for a while, where others need its memory."""
        for index in self._free() if self.room is not None else ():
            worker = self._workers[index]
            if worker is not None and time.monotonic() - worker.idle_since > IDLE_SECONDS:
                self._end_idle(index)

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
            self._end_measuring()
            if self.room is not None:
                self.room.leave_mps()
            self._say("a training ended badly under NVIDIA's MPS; the search goes on without it")

    def _release(self, job: Job) -> None:
        if self.room is not None:
            self.room.release(job.name)

    def _lost(self, index: int, worker: WorkerProcess, failure: Failure) -> None:
        """The process is gone, and with it all trainings that it had, which is to be told."""
        self._workers[index] = None
        for job, ended in worker.failures(failure):
            self._release(job)
            self._said.append((job, ended))
        self._leave_mps(worker)

    def _let_go(self, index: int, worker: WorkerProcess) -> None:
        """A process with a GPU leaves once its jobs are over, if one has failed; on its way out it takes no others."""
        if worker.jobs:
            return
        worker.idle_since = time.monotonic()
        if self._gpus and worker.failed:
            self._workers[index] = None
            worker.ended()

    def _free(self) -> list[int]:
        """The processes that train nothing, also those that are not started."""
        return [i for i, one in enumerate(self._workers) if one is None or not one.jobs]

    def _busy(self) -> Iterator[tuple[int, WorkerProcess]]:
        for index, worker in enumerate(self._workers):
            if worker is not None and worker.jobs:
                yield index, worker

    def _look_for_limits(self) -> None:
        """Once in a while kill a process whose trainings went beyond the limits."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for index, worker in self._busy():
            if (failure := worker.look()) is not None:
                logger.warning("worker %d is killed: %s", index, failure.error)
                worker.kill()
                worker.pipe.close()
                self._lost(index, worker, failure)

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
    """Whether CUDA or a library on it says so, and no memory is missing: the training may have done nothing wrong."""
    return names_gpu_fault(failure.error) and not failure.memory


def names_gpu_fault(error: str) -> bool:
    """Whether an error is of CUDA or of a library on it."""
    return any(one in error for one in FAULTS)


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
