"""The other processes of a trial on several GPUs: children of the one that reports, measures and keeps checkpoints.

They begin when a training begins and end with it, whatever ends it: each watches its parent, and leaves when that is
gone. The first process watches them too: where one is lost, it gives up, and the trial goes on from its checkpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from search.logs import verbosity
from search.run.job import Job
from search.run.process_group import join, leave, opened
from trainers.data.part import Part
from trainers.execution import Execution
from trainers.together import Together

logger = logging.getLogger(f"dynafront.{__name__}")

LOST = 75  # exit code of a first process that waited for one that is gone
PATIENCE = 10.0  # seconds for processes to end, and to notice that another one has
TICK = 0.5  # seconds between looks at them


class LostError(RuntimeError):
    """Another process of the training ended; says which, and why as far as it could."""


@contextmanager
def together(job: Job, execution: Execution) -> Iterator[Together]:
    """This process and the others that train the job, where it takes several. Raises LostError."""
    if job.gpus == 1:
        yield Together()
        return
    store = opened(job.gpus)
    parts = [Part(number, job.gpus) for number in range(job.gpus)]
    partners = [_Partner(job, execution, part, store.port) for part in parts[1:]]
    try:
        with _watched(partners):
            join(store, parts[0], execution.device)
            yield Together(parts[0], [one.pipe for one in partners])
    except RuntimeError as error:  # waiting for a process that is gone ends so
        if lost := [one for one in partners if one.is_lost()]:
            raise LostError(lost[0].reason()) from error
        raise
    finally:
        for one in partners:
            one.pipe.close()
        for one in partners:
            one.end()
        leave()


class _Partner:
    """One of the other processes, seen from the first one."""

    def __init__(self, job: Job, execution: Execution, part: Part, port: int) -> None:
        # these import what trains, which imports this
        from search.run.partner import serve
        from search.run.worker_process import workers_context

        context, self.number = workers_context(), part.number
        self.pipe, there = context.Pipe()
        # not daemonic: a daemon may not start the processes that stream a large data set
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=serve,
            args=(job, execution, part, port, there, dict(os.environ), verbosity()),
            name=f"{multiprocessing.current_process().name}-{part.number}",
        )
        self.process.start()
        there.close()

    def is_lost(self) -> bool:
        """Whether it ended, or does so soon; it was not asked to."""
        self.process.join(PATIENCE)
        return self.process.exitcode is not None

    def reason(self) -> str:
        """Why it is lost."""
        what = f"process {self.number + 1} of the training"
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                return f"{what}: {self.pipe.recv()}"
        return f"{what} ended (exit code {self.process.exitcode})"

    def end(self) -> None:
        """Wait until the process, whose pipe is closed, is gone."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _watched(partners: Sequence[_Partner]) -> Iterator[None]:
    """End this process where it may wait for ever for one that is gone: on GPUs nothing else tells it."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(partners, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(partners: Sequence[_Partner], over: threading.Event) -> None:
    while not over.is_set():
        if not wait([one.process.sentinel for one in partners], TICK):
            continue
        if not over.wait(PATIENCE):
            logger.error("this process waits for another one of its training, which is gone")
            os._exit(LOST)
