"""Another process of a trial on several GPUs: it trains its part of every batch, and neither measures nor reports."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from search.logs import show_logs
from search.run.checkpoint import Slot
from search.run.data import load_data, task_of
from search.run.job import Job
from search.run.process_group import join, leave, met
from search.run.worker import initial_net, teacher_net
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from trainers.data.part import Part
from trainers.data.splits import ImageData
from trainers.execution import Execution
from trainers.fit import follow
from trainers.together import Together

logger = logging.getLogger(f"dynafront.{__name__}")


def serve(
    job: Job, execution: Execution, part: Part, port: int, pipe: Connection, verbosity: int
) -> None:
    """Train with the first process until it closes the pipe; an error is sent to it as one line."""
    show_logs(verbosity)
    # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        join(met(port, part.count), part, execution.device)
        follow_job(job, execution, Together(part), _begun(pipe))
    except Exception as error:
        logger.info("process %d of a training failed", part.number, exc_info=error)
        with suppress(OSError):
            pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
    finally:
        leave()


def follow_job(job: Job, execution: Execution, group: Together, epochs: Iterable[int]) -> None:
    """Train the job's epochs as they come."""
    if job.threads:
        torch.set_num_threads(job.threads)
    data = load_data(job.data)
    try:
        _follow_on(data, job, execution, group, epochs)
    finally:
        data.release()


def _follow_on(
    data: ImageData, job: Job, execution: Execution, group: Together, epochs: Iterable[int]
) -> None:
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    task = task_of(data)
    follow(
        initial_net(job, candidate, task),
        data,
        candidate.recipe,
        seed=job.seed,
        execution=execution,
        slot=Slot.of(job, candidate),
        teacher=teacher_net(job, candidate, task),
        together=group,
        epochs=epochs,
    )


def _begun(pipe: Connection) -> Iterator[int]:
    """The epochs that the first process begins."""
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
