"""Trials in worker processes on this machine, each on its own GPU where there are any."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from search.run.job import Event, Failure, Job, Outcome, Rung
from search.run.watch import TrialLimits
from search.run.worker_process import WorkerProcess, workers_context

logger = logging.getLogger(f"dynafront.{__name__}")

LOOK_SECONDS = 1.0  # between two looks at whether trainings are within their limits


class LocalProcesses:
    """Worker processes, started once and reused; worker k sees GPU k modulo their number, or the k-th group of GPUs.

    One whose training goes beyond the `limits` is killed, and the next job gets a new one.
    """

    def __init__(
        self, workers: int, limits: TrialLimits | None = None, gpus_per_trial: int = 1
    ) -> None:
        self.slots = workers
        self._limits = limits or TrialLimits()
        if gpus_per_trial > 1:  # torch would warn on stderr whenever a step has used all parameters
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        self._context = workers_context()
        self._gpus = grouped(_gpus(), gpus_per_trial)
        self._workers: list[WorkerProcess | None] = [None] * workers
        self._looked = time.monotonic()

    @property
    def shared(self) -> bool:
        """Whether several trainings at once share a GPU, or the machine where there is none."""
        return self.slots > max(1, len(self._gpus))

    @property
    def shares_machine(self) -> bool:
        return self.slots > 1

    def open(self, say: Callable[[str], None]) -> None:
        pass

    def say_on(self, say: Callable[[str], None]) -> None:
        pass

    def submit(self, job: Job) -> None:
        index = next(
            i for i, worker in enumerate(self._workers) if worker is None or worker.job is None
        )
        worker = self._workers[index]
        if worker is None or not worker.begin(job):
            worker = self._workers[index] = self._started(index)
            worker.begin(job)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
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
            death = worker.death
            logger.warning("worker %d: %s", index, death.error)
            return job, death
        # it leaves, and must not be given the next job on its way out
        if isinstance(event, Failure) and self._gpus:
            self._workers[index] = None
            worker.ended()
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

    def close(self) -> None:
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.ended()
        self._workers = [None] * self.slots

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
                return job, replace(failure, epoch=worker.failed_in)
        return None

    def _started(self, index: int) -> WorkerProcess:
        gpu = self._gpus[index % len(self._gpus)] if self._gpus else None
        worker = WorkerProcess(self._context, f"worker-{index}", gpu, self._limits)
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


def grouped(gpus: Sequence[str], each: int) -> list[str]:
    """The GPUs that workers see, so many each, as CUDA_VISIBLE_DEVICES names them; those left over are in none."""
    firsts = range(0, len(gpus) - each + 1, each)
    return [",".join(gpus[first : first + each]) for first in firsts]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
