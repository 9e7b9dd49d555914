"""Where trials run: in this process, or in worker processes on this machine, each on its own GPU where there are any.

One driver decides and writes; workers only train. A worker that dies gives a Failure marked `crashed`, and its
trial can be submitted again: it continues from its last checkpoint. A training that yields a Rung waits for an answer.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from search.logs import show_logs, verbosity
from search.run.job import Event, Failure, Job, Outcome, Rung
from search.run.worker import events
from trainers.data.processes import spawned

logger = logging.getLogger(f"dynafront.{__name__}")

PATIENCE = 5.0  # seconds that a process has to end by itself


class Engine(Protocol):
    """Runs jobs; `slots` at once."""

    slots: int

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


def engine_for(workers: int, gpus_per_trial: int = 1) -> Engine:
    """Where a study's trials run: in so many worker processes, or with none in this process."""
    return LocalProcesses(workers, gpus_per_trial) if workers else InProcess()


class InProcess:
    """Trains in this process, one trial at a time: the easiest to debug, and the best on one small machine."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, Generator[Event, None, None]]] = deque()
        self._unanswered = False

    def submit(self, job: Job) -> None:
        self._waiting.append((job, events(job)))

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


class LocalProcesses:
    """Worker processes, started once and reused; worker k sees GPU k modulo their number, or the k-th group of GPUs."""

    def __init__(self, workers: int, gpus_per_trial: int = 1) -> None:
        self.slots = workers
        self._context = spawned()
        self._gpus = grouped(_gpus(), gpus_per_trial)
        if gpus_per_trial > 1:  # torch would warn on stderr whenever a step has used all parameters
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        self._workers: list[_Worker | None] = [None] * workers

    def submit(self, job: Job) -> None:
        index = next(
            i for i, worker in enumerate(self._workers) if worker is None or worker.job is None
        )
        worker = self._workers[index]
        if worker is None or not worker.sent(job):
            worker = self._workers[index] = self._started(index)
            worker.pipe.send(job)
        worker.job = job

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        busy = {
            w.pipe: (i, w)
            for i, w in enumerate(self._workers)
            if w is not None and w.job is not None
        }
        ready = wait(list(busy), timeout)
        if not ready:
            return None
        index, worker = busy[ready[0]]  # type: ignore[index]
        job = worker.job
        assert job is not None
        try:
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers[index] = None
            worker.ended()
            code = worker.process.exitcode
            logger.warning("worker %d ended with exit code %s while it trained", index, code)
            return job, Failure(
                f"its worker process ended (exit code {code})", None, "", crashed=True
            )
        if isinstance(event, Outcome | Failure):
            worker.job = None
        # it leaves, and must not be given the next job on its way out
        if isinstance(event, Failure) and self._gpus:
            self._workers[index] = None
            worker.ended()
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        worker = next(
            (
                w
                for w in self._workers
                if w is not None and w.job is not None and w.job.name == job.name
            ),
            None,
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

    def _started(self, index: int) -> _Worker:
        here, there = self._context.Pipe()
        gpu = self._gpus[index % len(self._gpus)] if self._gpus else None
        # not daemonic: a daemon may not start the processes that stream a large data set
        process = self._context.Process(
            target=_work, args=(there, gpu, verbosity()), name=f"worker-{index}"
        )
        process.start()
        logger.info("worker %d is process %d, GPU %s", index, process.pid, gpu or "none")
        there.close()
        return _Worker(process, here)


class _Worker:
    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.job: Job | None = None

    def sent(self, message: Job | bool) -> bool:
        """Send it to the process; False when that is gone."""
        try:
            self.pipe.send(message)
        except OSError as error:
            logger.debug("%s takes no message: %s", self.process.name, error)
            return False
        return self.process.is_alive()

    def ended(self) -> None:
        """Wait until the process, which is about to end, is gone."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _work(pipe: Connection, gpu: str | None, verbosity: int) -> None:
    show_logs(verbosity)
    # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            for event in events(job):
                pipe.send(event)
                if gpu is not None and isinstance(event, Failure):
                    return  # an error on a GPU may outlive the trial in this process; the next gets a new one
                if isinstance(event, Rung) and not pipe.recv():
                    break  # with the generator goes its network
        except (
            EOFError,
            OSError,
        ):  # the driver is gone; the checkpoint stays for whoever takes over
            logger.debug("the driver is gone")
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
