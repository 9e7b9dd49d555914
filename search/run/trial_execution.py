"""On what and in which number format a trial trains."""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace

import torch

from search.run.checkpoint import Slot
from search.run.job import Job, Notice
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from storage.records import training_text
from trainers.cores import cores
from trainers.execution import Execution, best_device, check_precision, random_images, whole_vectors
from trainers.wrong_results import wrong_operations

logger = logging.getLogger(f"dynafront.{__name__}")


def execution_of(job: Job, net: DynamicNet, slot: Slot) -> Execution:
    """Number format and layout as the checkpoint was trained, else as asked for or measured, else plain float32.

    Threads as the checkpoint was trained or as measured, where the study file does not say.
    """
    device = best_device() if job.device == "auto" else job.device
    measured = Execution(**job.execution) if job.execution is not None else Execution()
    if saved := slot.load():
        chosen = Execution(**saved[1]["execution"])
    elif job.precision != "auto":
        chosen = Execution(dtype=job.precision, threads=measured.threads)
    else:
        chosen = measured
    check_precision(chosen.dtype, device)
    layout = chosen.channels_last and (device != "cpu" or whole_vectors(net))
    return replace(
        chosen,
        device=device,
        channels_last=layout,
        compile=job.compile,
        micro_batch=job.micro_batch or chosen.micro_batch,
        threads=chosen.threads if job.most_threads else 0,
    )


def threads_of(job: Job, execution: Execution) -> int:
    """Threads to train with: as measured, however many trials train beside it now, up to the cores there are."""
    if execution.threads:
        return min(execution.threads, cores())
    return job.threads or torch.get_num_threads()


def rightly_computed(
    job: Job, net: DynamicNet, candidate: Candidate, execution: Execution
) -> Generator[Notice, None, Execution]:
    """The same, or in float32 where a library computes the network wrongly in the number format."""
    if execution.dtype == "float32":
        return execution
    images = random_images(net, max(1, candidate.recipe.batch // job.gpus), execution.device)
    wrong = wrong_operations(net, execution, images)
    if not wrong:
        return execution
    name, found = training_text(*job.name), "; ".join(wrong)
    said = f"{name} trains in float32, since torch's {execution.dtype} is wrong here for {found}"
    logger.info(said)
    if job.precision != "auto":  # somebody asked for it
        yield Notice(said)
    return replace(execution, dtype="float32")
