"""How long a candidate's training takes on this machine, from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from search.measure.operating_points import operating_points
from search.run.data import load_data
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.task import Task
from spaces.contract.trunk import is_frozen
from trainers.data.splits import DataSpec
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.fit import fit
from trainers.frozen import frozen_data, views_of
from trainers.latency import torch_threads
from trainers.thread_choice import measured_threads

STEPS = 3  # training steps that are timed, after as many to warm up
MEASURED = 256  # validation images that are timed
# multiply-accumulates of a step and of those images that a CPU is given: a large network takes as long for each image
# of a smaller batch, and nobody waits minutes for it
STEP_MACS, MEASURED_MACS = 2e9, 2e10
FEWEST_A_STEP, FEWEST_MEASURED = 4, 32  # images


@dataclass(frozen=True)
class Speed:
    """Seconds of an epoch, of measuring the operating points at the end of a training, and of what all trainings share:
    the features of a frozen trunk.
    """

    epoch: float
    points: float
    once: float = 0.0

    def training(self, epochs: int) -> float:
        """Seconds of a whole training."""
        return epochs * self.epoch + self.points


def measured_speed(
    candidate: Candidate,
    task: Task,
    data: DataSpec,
    execution: Execution,
    gpus: int = 1,
    *,
    points: bool = True,
    most_threads: int = 0,
) -> Speed:
    """The speed of a candidate, timed on a few images and counted up to all; without `points` training alone is.

    On a CPU with the threads, up to so many, with which it is fastest; 0: with those that PyTorch has.
    Of several GPUs one is timed with its part of a batch; what they tell each other is not counted.
    Raises ValueError where the device has too little memory for it.
    """
    whole = load_data(data)
    net = candidate.build(task, 0)
    batch, measured = max(1, candidate.recipe.batch // gpus), MEASURED
    if execution.device == "cpu":
        batch = min(batch, max(FEWEST_A_STEP, round(STEP_MACS / net.plain_macs)))
        measured = min(measured, max(FEWEST_MEASURED, round(MEASURED_MACS / net.plain_macs)))
    images = min(len(whole.train), max(STEPS * batch, task.classes))
    measured = min(len(whole.validation), max(measured, task.classes))
    few = replace(whole, train=whole.train.some(images), validation=whole.validation.some(measured))
    recipe, once = replace(candidate.recipe, epochs=2, batch=batch), 0.0
    with torch_threads(_threads(net, candidate, recipe, execution, most_threads)):
        try:
            teacher = candidate.baseline().build(task, 0) if recipe.distill else None
            started = time.perf_counter()
            rows = frozen_data(net, few, views=1, files=None, execution=execution)
            if rows is not None:
                each = (time.perf_counter() - started) / (images + measured)
                once = each * (views_of(candidate) * len(whole.train) + len(whole.validation))
                few = rows
            *_, last = fit(net, few, recipe, execution=execution, teacher=teacher)
            started = time.perf_counter()
            evaluate(net, few.validation, few, Knobs(), execution=execution)
            validating = time.perf_counter() - started
            started = time.perf_counter()
            if points:
                operating_points(net, few, recipe, execution=execution, seed=0)
            measuring = time.perf_counter() - started
        except torch.OutOfMemoryError:
            raise ValueError(
                f"the memory of {execution.device} is too small for the largest network at batch "
                f"{candidate.recipe.batch}: lower space.{candidate.family.name}.batch, the sizes, or image_size"
            ) from None
        finally:
            few.release()
    more = len(whole.validation) / measured
    training = len(whole.train) / last.metrics["train/images_per_second"] / gpus
    return Speed(training + more * validating, more * measuring, once)


def _threads(
    net: DynamicNet, candidate: Candidate, recipe: Recipe, execution: Execution, most: int
) -> int:
    """As a search would measure them."""
    if most <= 1 or execution.device != "cpu" or is_frozen(candidate.params):
        return torch.get_num_threads()
    return measured_threads(net, recipe, execution, most)
