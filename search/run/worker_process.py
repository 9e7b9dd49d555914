"""A process that trains jobs one after the other: both ends of its pipe, and how it is ended."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

import psutil

from search.logs import show_logs, verbosity
from search.run.job import EpochResult, Event, Failure, Job, Outcome, Rung
from search.run.watch import TrialLimits, Watch, family_of, kernel_kills, own_memory
from storage.records import Kind
from trainers.data.processes import end_with_parent, forked_from_server
from trainers.data.progress import steps

if TYPE_CHECKING:
    from search.run.group import Group

logger = logging.getLogger(f"dynafront.{__name__}")

Name = tuple[Kind, int]
PATIENCE = 5.0  # seconds that a process has to end by itself
COUNT_SECONDS = 1.0  # between two reports of how far it is
PRELOADED = "search.run.preloaded"  # what workers need, in the process that they are forked from


class WorkerProcess:
    """The process, as the driver sees it. `jobs` are what it trains now, `epochs` the last that it finished of each.

    `under_mps`: it shares its GPU by NVIDIA's Multi-Process Service. `idle_since`: when its last job was over.
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
        self.jobs: dict[Name, Job] = {}
        self.epochs: dict[Name, int] = {}
        self.failed = False  # one of the jobs that it began last
        self._together = 0  # how many these were
        self.under_mps = False
        self.idle_since = time.monotonic()
        self._limits, self._kills = limits, kernel_kills()
        self._watch = self._watching()

    def begin(self, jobs: Sequence[Job]) -> bool:
        """Let it train the jobs, as one where it can; False when it is gone, of which its pipe tells then."""
        self.jobs, self.epochs, self.failed = {job.name: job for job in jobs}, {}, False
        self._together = len(jobs)
        self._watch = self._watching()
        self._kills = kernel_kills()
        return self.sent(tuple(jobs))

    def sent(self, message: tuple[Job, ...] | bool) -> bool:
        """Send it to the process; False when that is gone."""
        try:
            self.pipe.send(message)
        except OSError as error:
            logger.debug("%s takes no message: %s", self.process.name, error)
            return False
        return bool(self.process.is_alive())

    def received(self) -> tuple[Job, Event]:
        """What it says next, of which job. Raises EOFError or OSError when it is gone."""
        name, event = self.pipe.recv()
        self._watch.heard()
        job = self.jobs[name]
        if isinstance(event, EpochResult):
            self.epochs[name] = event.epoch
        self.failed |= isinstance(event, Failure)
        if isinstance(event, Outcome | Failure):
            del self.jobs[name]
        return job, event

    def look(self) -> Failure | None:
        """Why its trainings have to be ended, if they have to; what it has said already is taken in before."""
        return None if not self.jobs or self.pipe.poll() else self._watch.look()

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

    def failures(self, failure: Failure) -> list[tuple[Job, Failure]]:
        """What ended the process, of each job: in the epoch that it is in, as far as that is known.

        Of jobs that trained as one none is known to be at fault, or beyond a bound: each can be tried alone.
        """
        epochs = {name: self.epochs[name] + 1 for name in self.epochs}
        if self._together > 1:
            what = f"{failure.error}, with {self._together} trials that trained as one"
            failure = replace(failure, error=what, crashed=True, memory=False)
        return [(job, replace(failure, epoch=epochs.get(name))) for name, job in self.jobs.items()]

    @property
    def death(self) -> Failure:
        """What is said of trainings whose process has ended before them.

        The kernel ends one with SIGKILL when memory runs out, and counts that; without a count it is taken for that.
        """
        code = self.process.exitcode
        kills = kernel_kills()
        memory = code == -signal.SIGKILL and (kills is None or kills != self._kills)
        why = ": killed, for memory ran out" if memory else ""
        return Failure(
            f"its worker process ended (exit code {code}{why})",
            None,
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
    from search.run.group import events_together  # what starts this process needs no PyTorch
    from trainers.memory import leave_gpu

    begin_process(environment, verbosity)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_count, args=(steps, done), name="steps", daemon=True).start()
    while True:
        try:
            jobs = pipe.recv()
        except EOFError:
            return
        try:
            failed = _report(pipe, events_together(jobs))
            if gpu is not None and failed:
                return  # an error on a GPU may outlive the trial in this process; the next gets a new one
            if gpu is not None:
                leave_gpu()
        # the driver is gone; the checkpoint stays for whoever takes over
        except (EOFError, OSError):
            logger.debug("the driver is gone")
            return


def _report(pipe: Connection, running: Group) -> bool:
    """Send what happens to jobs until all are over; whether any of them failed."""
    failed, goes_on = False, None
    while True:
        try:
            job, event = running.send(goes_on)
        except StopIteration:
            return failed
        pipe.send((job.name, event))
        failed |= isinstance(event, Failure)
        goes_on = pipe.recv() if isinstance(event, Rung) else None


def _count(steps: Callable[[], int], done: Any) -> None:
    while True:
        done.value = steps()
        time.sleep(COUNT_SECONDS)
