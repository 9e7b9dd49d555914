"""Another process of a trial on several GPUs: it trains its part of every batch, and neither measures nor reports."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from search.run.checkpoint import Slot
from search.run.data import load_data, task_of
from search.run.job import Job
from search.run.process_group import CUDA, join, leave, met
from search.run.trial_execution import threads_of
from search.run.worker import initial_net, teacher_net
from search.run.worker_process import begin_process
from spaces.contract.error_lines import kind_and_line
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from trainers.data.part import Part
from trainers.data.splits import ImageData
from trainers.execution import Execution
from trainers.fit import follow
from trainers.memory import cap_gpu_memory
from trainers.together import Together

logger = logging.getLogger(f"dynafront.{__name__}")


def serve(
    job: Job,
    execution: Execution,
    part: Part,
    port: int,
    pipe: Connection,
    environment: dict[str, str],
    verbosity: int,
) -> None:
    """Train with the first process until it closes the pipe; an error is sent to it as one line."""
    begin_process(environment, verbosity)
    try:
        join(met(port, part.count), part, execution.device)
        follow_job(job, execution, Together(part), _begun(pipe))
    except Exception as error:
        logger.info("process %d of a training failed", part.number, exc_info=error)
        with suppress(OSError):
            pipe.send(kind_and_line(error))
    finally:
        leave()


def follow_job(job: Job, execution: Execution, group: Together, epochs: Iterable[int]) -> None:
    """Train the job's epochs as they come."""
    if job.gpu_memory is not None and execution.device.startswith(CUDA):
        cap_gpu_memory(job.gpu_memory, execution.device)
    torch.set_num_threads(threads_of(job, execution))
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
