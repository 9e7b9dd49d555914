"""A process that trains jobs one after the other: both ends of its pipe, and how it is ended."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import psutil

from search.logs import show_logs, verbosity
from search.run.job import EpochResult, Event, Failure, Job, Outcome, Rung
from search.run.watch import TrialLimits, Watch, family_of, kernel_kills, own_memory
from trainers.data.processes import end_with_parent, forked_from_server
from trainers.data.progress import steps

logger = logging.getLogger(f"dynafront.{__name__}")

PATIENCE = 5.0  # seconds that a process has to end by itself
COUNT_SECONDS = 1.0  # between two reports of how far it is
PRELOADED = "search.run.preloaded"  # what workers need, in the process that they are forked from


class WorkerProcess:
    """The process, as the driver sees it. `job` is what it trains now; `epoch` the last one that it finished of it.

    `under_mps`: it shares its GPU by NVIDIA's Multi-Process Service.
    """

    def __init__(
        self, context: BaseContext, name: str, gpu: str | None, limits: TrialLimits
    ) -> None:
        self.pipe, there = context.Pipe()
        self._steps: Any = context.RawValue(ctypes.c_uint64, 0)
        # not daemonic: a daemon may not start the processes that stream a large data set
        self.process = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(there, dict(os.environ), gpu, verbosity(), self._steps), name=name
        )
        self.process.start()
        there.close()
        self.job: Job | None = None
        self.epoch = 0
        self.under_mps = False
        self._limits, self._kills = limits, kernel_kills()
        self._watch = self._watching()

    def begin(self, job: Job) -> bool:
        """Let it train the job; False when it is gone."""
        if not self.sent(job):
            return False
        self.job, self.epoch, self._watch = job, 0, self._watching()
        self._kills = kernel_kills()
        return True

    def sent(self, message: Job | bool) -> bool:
        """Send it to the process; False when that is gone."""
        try:
            self.pipe.send(message)
        except OSError as error:
            logger.debug("%s takes no message: %s", self.process.name, error)
            return False
        return bool(self.process.is_alive())

    def received(self) -> Event:
        """What it says next. Raises EOFError or OSError when it is gone."""
        event: Event = self.pipe.recv()
        self._watch.heard()
        if isinstance(event, EpochResult):
            self.epoch = event.epoch
        if isinstance(event, Outcome | Failure):
            self.job = None
        return event

    def look(self) -> Failure | None:
        """Why its training has to be ended, if it has to; what it has said already is taken in before."""
        return None if self.job is None or self.pipe.poll() else self._watch.look()

    def ended(self) -> None:
        """Wait until the process, which is about to end, is gone."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.kill()
        self.pipe.close()

    def kill(self) -> None:
        """End it at once, and what it started: one that hangs hears nothing."""
        for one in family_of(self.process.pid or 0):
            with suppress(psutil.Error):
                one.kill()
        self.process.join()

    @property
    def failed_in(self) -> int | None:
        """The epoch that it is in, as far as that is known."""
        return self.epoch + 1 if self.epoch else None

    @property
    def death(self) -> Failure:
        """What is said of a training whose process has ended before it.

        The kernel ends one with SIGKILL when memory runs out, and counts that; without a count it is taken for that.
        """
        code = self.process.exitcode
        kills = kernel_kills()
        memory = code == -signal.SIGKILL and (kills is None or kills != self._kills)
        why = ": killed, for memory ran out" if memory else ""
        return Failure(
            f"its worker process ended (exit code {code}{why})",
            self.failed_in,
            "",
            crashed=True,
            memory=memory,
        )

    def _watching(self) -> Watch:
        pid = self.process.pid or 0
        return Watch(self._limits, lambda: int(self._steps.value), lambda: own_memory(pid))


def workers_context() -> BaseContext:
    """Where processes of this module start: forks of one that has imported all that they need."""
    return forked_from_server([PRELOADED])


def begin_process(environment: dict[str, str], verbosity: int) -> None:
    """What a process that trains does first: it ends with its parent, and leaves Ctrl-C to the driver."""
    end_with_parent()
    # as it is now, not as it was when the process was started that this one is a fork of
    os.environ.clear()
    os.environ.update(environment)
    show_logs(verbosity)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which reaches the whole group


def process_beside(work: Callable[..., None], *values: Any) -> tuple[Any, Connection]:
    """A process that does `work(pipe, *values)` beside the driver, started, and the driver's end of that pipe.

    It ends with the driver, however that ends, and leaves Ctrl-C and SIGTERM to it.
    """
    context = workers_context()
    pipe, there = context.Pipe()
    arguments = work, there, dict(os.environ), verbosity(), values
    process = context.Process(target=_beside, args=arguments)  # type: ignore[attr-defined]
    process.start()
    there.close()
    return process, pipe


def _beside(
    work: Callable[..., None],
    pipe: Connection,
    environment: dict[str, str],
    verbosity: int,
    values: tuple[Any, ...],
) -> None:
    begin_process(environment, verbosity)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work(pipe, *values)


def _work(
    pipe: Connection, environment: dict[str, str], gpu: str | None, verbosity: int, done: Any
) -> None:
    from search.run.worker import events  # the process that starts this one needs no PyTorch
    from trainers.memory import leave_gpu

    begin_process(environment, verbosity)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_count, args=(steps, done), name="steps", daemon=True).start()
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
            if gpu is not None:
                leave_gpu()
        # the driver is gone; the checkpoint stays for whoever takes over
        except (EOFError, OSError):
            logger.debug("the driver is gone")
            return


def _count(steps: Callable[[], int], done: Any) -> None:
    while True:
        done.value = steps()
        time.sleep(COUNT_SECONDS)
