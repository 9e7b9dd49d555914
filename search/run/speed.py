"""How long an epoch of a candidate takes on this machine, from a few training steps."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import torch

from search.run.data import load_data
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.task import Task
from trainers.data.splits import DataSpec
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.fit import fit

STEPS = 3  # training steps that are timed, after as many to warm up
MEASURED = 256  # validation images that are timed


def epoch_seconds(candidate: Candidate, task: Task, data: DataSpec, execution: Execution) -> float:
    """Seconds of an epoch: training on all images, measuring on all validation images.

    Raises ValueError where the device has too little memory for it.
    """
    whole = load_data(data)
    images = min(len(whole.train), max(STEPS * candidate.recipe.batch, task.classes))
    measured = min(len(whole.validation), max(MEASURED, task.classes))
    few = load_data(replace(data, train_limit=images, validation_limit=measured))
    net = candidate.build(task, 0)
    recipe = replace(candidate.recipe, epochs=2)
    try:
        *_, last = fit(net, few, recipe, execution=execution)
        started = time.perf_counter()
        evaluate(net, few.validation, few, Knobs(), execution=execution)
        validating = (time.perf_counter() - started) * len(whole.validation) / measured
    except torch.OutOfMemoryError:
        raise ValueError(
            f"the memory of {execution.device} is too small for the largest network at batch {recipe.batch}: lower "
            f"space.{candidate.family.name}.batch, the sizes, or image_size"
        ) from None
    return len(whole.train) / last.metrics["train/images_per_second"] + validating


def threads_of(threads: int | None, workers: int) -> int:
    """Threads of a trial, where so many are trained at once."""
    if threads:
        return threads
    return max(1, (os.cpu_count() or 1) // workers) if workers > 1 else torch.get_num_threads()
