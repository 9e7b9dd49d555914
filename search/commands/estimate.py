"""What a study will take, before it is begun: time from a few training steps, disk from the sizes of its networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from search.commands.study_check import CheckedStudy
from search.objectives import Shape
from search.run.data import data_spec
from search.run.jobs import most_threads_for, threads_for
from search.run.speed import Speed, measured_speed
from search.schedule.limits import limit_of
from search.schedule.sizes import shape_of, sizes
from search.schedule.static_nets import static_nets_of
from search.schedule.warm_start import epochs_of, recommended, warm
from search.study_parts import Run
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.execution import Execution, best_device

FLOAT_BYTES = 4
FILES = 2  # checkpoints of a training: the last epoch's and the one before
COPIES = {"sgd": 2, "adamw": 3}  # of the weights in one: themselves, and what the optimizer keeps


@dataclass(frozen=True)
class Size:
    """Networks of one size: `dynamic` as trials train them with so many `parameters`, of which `constant` are the
    same in all trainings, their baseline's shape, whether they start from it, and how many static networks
    of it are trained beside a frozen trunk.
    """

    dynamic: Candidate
    parameters: int
    constant: int
    shape: Shape
    warm: bool
    statics: int

    @property
    def checkpoint_bytes(self) -> int:
        copies = COPIES[self.dynamic.recipe.optimizer]
        return FILES * FLOAT_BYTES * copies * (self.parameters - self.constant)

    def bytes_of(self, trainings: int) -> int:
        """Of the checkpoints of so many trainings, with what they share."""
        return trainings * self.checkpoint_bytes + FLOAT_BYTES * self.constant


@dataclass(frozen=True)
class Estimate:
    """From all trials short and of the smallest size, to all of full length and of the largest."""

    seconds: tuple[float, float]
    disk: tuple[int, int]  # bytes of checkpoints
    smallest: Size
    largest: Size
    sizes: int
    beyond: int  # sizes that `limits` leaves out
    device: str


def estimate(checked: CheckedStudy, trials: int, workers: int, trained: int = 0) -> Estimate:
    """What so many trials will take, where so many baselines are trained already.

    Raises ValueError where no network is within the limits.
    """
    spec = checked.spec
    every = list(_sizes(checked))
    within = _within(checked, every)
    smallest = min(within, key=lambda one: one.shape.macs)
    largest = max(within, key=lambda one: one.shape.macs)
    device = _timed_on(spec.run)
    threads = spec.run.threads or threads_for(spec.run, max(1, workers))
    torch.set_num_threads(threads or torch.get_num_threads())
    needed = [int(smallest.warm), sum(one.warm for one in within)]
    baselines = [max(0, one - trained) for one in needed]
    lengths = [epochs_of(spec, smallest.dynamic.family.name), spec.budget.epochs]
    up_to = most_threads_for(spec.run, max(1, workers))
    speed_of = partial(_speed, checked, device=device, most_threads=up_to)
    seconds, disk = [], []
    for size, count, epochs in zip((smallest, largest), baselines, lengths, strict=True):
        spent, used = _taken(checked, size, trials, count, epochs, speed_of)
        seconds.append(spent / max(1, workers))
        disk.append(used)
    most = 3600 * spec.budget.hours if spec.budget.hours else max(seconds)
    return Estimate(
        seconds=(min(*seconds, most), min(max(seconds), most)),
        disk=(min(disk), max(disk)),
        smallest=smallest,
        largest=largest,
        sizes=len(every),
        beyond=len(every) - len(within),
        device=device,
    )


def _timed_on(run: Run) -> str:
    """The device of this machine that steps are timed on: a cluster may have the GPU that it asks for, and this not."""
    if run.device == "cpu":
        return "cpu"
    return best_device() if run.device == "auto" or run.uses_ray else run.device


def _taken(
    checked: CheckedStudy,
    size: Size,
    trials: int,
    baselines: int,
    epochs: int,
    speed_of: Callable[[Candidate], Speed],
) -> tuple[float, int]:
    """Seconds and bytes of checkpoints that so many trials take, with baselines, where all are of one size."""
    if not trials:
        return 0.0, size.bytes_of(0)
    trainings = trials + size.statics
    speed = speed_of(size.dynamic)
    seconds = speed.once + trainings * speed.training(epochs)
    if baselines:
        baseline = speed_of(size.dynamic.baseline())
        seconds += baselines * baseline.training(checked.spec.budget.epochs)
    return seconds, size.bytes_of(trainings + baselines)


def _speed(checked: CheckedStudy, candidate: Candidate, device: str, most_threads: int) -> Speed:
    data = data_spec(checked.spec, candidate.image_size)
    gpus = checked.spec.run.gpus
    execution, task = Execution(device=device), checked.task
    return measured_speed(candidate, task, data, execution, gpus, most_threads=most_threads)


def _within(checked: CheckedStudy, every: Sequence[Size]) -> list[Size]:
    excess = limit_of(checked.spec, checked.task)
    reasons = [excess(one.dynamic) for one in every]
    within = [one for one, reason in zip(every, reasons, strict=True) if reason is None]
    if not within:
        reason = reasons[0] if reasons else "none can be built for these images"
        raise ValueError(f"no network of the space can be trained: {reason}")
    return within


def _sizes(checked: CheckedStudy) -> Iterator[Size]:
    """Every size that the study searches and that can be built."""
    for name, space in checked.spaces.items():
        own = family(name)
        for values in sizes(own, space):
            try:
                one = Candidate.of(own, recommended(space) | values, checked.spec.budget.epochs)
                parameters, constant = _parameters(one, checked.task)
                shape = shape_of(one.baseline(), checked.task)
            except ValueError:
                continue
            statics = [*static_nets_of(one, checked.task)]
            yield Size(one, parameters, constant, shape, warm(checked.spec, name), len(statics))


def _parameters(candidate: Candidate, task: Task) -> tuple[int, int]:
    """All parameters of the network, and those that no training changes."""
    net = candidate.outline(task)
    constant = net.constant_names()
    sizes_by_name = {name: p.numel() for name, p in net.named_parameters()}
    return sum(sizes_by_name.values()), sum(
        sizes_by_name[n] for n in constant & sizes_by_name.keys()
    )
