"""Where trials run: in this process, or in worker processes on this machine, each on its own GPU where there are any.

One driver asks, tells and writes; workers only train. A worker that dies gives a Failure marked `crashed`, and its
trial can be submitted again: it continues from its last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from search.trial import EpochResult, Event, Failure, Job, events


class Engine(Protocol):
    """Runs jobs; `slots` at once."""

    slots: int

    def submit(self, job: Job) -> None: ...

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        """The next thing that happened, or None when nothing did within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Stop whatever runs. Checkpoints stay."""
        ...


class InProcess:
    """Trains in this process, one trial at a time: the easiest to debug, and the best on one small machine."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, Iterator[Event]]] = deque()

    def submit(self, job: Job) -> None:
        self._waiting.append((job, events(job)))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        if not self._waiting:
            return None
        job, running = self._waiting[0]
        event = next(running)
        if not isinstance(event, EpochResult):
            self._waiting.popleft()
        return job, event

    def close(self) -> None:
        self._waiting.clear()


class LocalProcesses:
    """Worker processes, started once and reused; worker k sees GPU k modulo their number."""

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._context = multiprocessing.get_context("spawn")
        self._gpus = _gpus()
        self._workers: list[_Worker | None] = [None] * workers

    def submit(self, job: Job) -> None:
        index = next(i for i, worker in enumerate(self._workers) if worker is None or worker.job is None)
        worker = self._workers[index]
        if worker is None or not worker.process.is_alive():
            worker = self._workers[index] = self._started(index)
        worker.job = job
        worker.pipe.send(job)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        busy = {w.pipe: (i, w) for i, w in enumerate(self._workers) if w is not None and w.job is not None}
        ready = wait(list(busy), timeout)
        if not ready:
            return None
        index, worker = busy[ready[0]]  # type: ignore[index]
        job = worker.job
        assert job is not None
        try:
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            self._workers[index] = None
            code = worker.process.exitcode
            return job, Failure(f"its worker process ended (exit code {code})", None, "", crashed=True)
        if not isinstance(event, EpochResult):
            worker.job = None
        return job, event

    def close(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.process.terminate()
        for worker in self._workers:
            if worker is not None:
                worker.process.join(5)
                if worker.process.is_alive():
                    worker.process.kill()
                    worker.process.join()
        self._workers = [None] * self.slots

    def _started(self, index: int) -> _Worker:
        here, there = self._context.Pipe()
        gpu = self._gpus[index % len(self._gpus)] if self._gpus else None
        # not daemonic: a daemon may not start the processes that stream a large data set
        process = self._context.Process(target=_work, args=(there, gpu))
        process.start()
        there.close()
        return _Worker(process, here)


class _Worker:
    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.job: Job | None = None


def _work(pipe: Connection, gpu: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
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
        except OSError:  # the driver is gone; the checkpoint stays for whoever takes over
            return


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
