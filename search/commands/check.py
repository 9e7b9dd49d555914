"""Checking a study file without training: what a search would find, how large it is, and what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from search.commands.data_check import test_images_of
from search.commands.estimate import Estimate, Size, estimate
from search.commands.gpu_check import check_gpus
from search.commands.study_check import CheckedStudy, checked_study, stored_study
from search.objectives import macs_text
from search.report.amounts import file_size, time_text
from search.report.text import network_text
from search.run.data import data_spec, load_data
from search.run.heartbeat import Steps
from search.run.ray_offer import offer
from search.spec import StudySpec
from spaces.contract.space_size import SpaceSize, space_size
from storage.records import Kind, State
from storage.settings import Settings
from storage.store import Store

ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Images:
    """How many images each part has, their shape, and how many classes there are.

    `sides` are those that the study searches; the shape is then that of the largest.
    """

    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    sides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Check:
    """What is known of a study before its first training."""

    study: str
    images: Images
    space: dict[str, SpaceSize]
    trials: int
    ended: int
    workers: int
    gpus_per_trial: float
    estimate: Estimate
    cluster: str | None = None  # what a Ray cluster has, in words

    def as_dict(self) -> dict[str, Any]:
        found = self.estimate
        return {
            "study": self.study,
            "images": asdict(self.images),
            "space": {name: asdict(size) for name, size in self.space.items()},
            "trials": {"budget": self.trials, "ended": self.ended},
            "seconds": dict(zip(("low", "high"), found.seconds, strict=True)),
            "checkpoint_bytes": dict(zip(("low", "high"), found.disk, strict=True)),
            "sizes": {"searched": found.sizes, "beyond_limits": found.beyond},
            "device": found.device,
            "workers": self.workers,
            "gpus_per_trial": self.gpus_per_trial,
            "cluster": self.cluster,
        }


def check_study(
    spec: StudySpec, settings: Settings, console: Console, *, workers: int | None = None
) -> Check:
    """Check what `search` checks before it trains, and measure a few steps. Raises ValueError with one line."""
    workers, cluster = spec.run.workers if workers is None else workers, None
    check_gpus(spec, workers)
    with Steps(console) as step:
        if spec.run.uses_ray:
            step("looking at the Ray cluster")
            there = offer(spec.run)
            workers, cluster = max(1, there.trials), there.line(spec.run)
        checked = checked_study(spec, settings, step)
        ended, trained = _ended(settings, spec.study)
        step("timing a few training steps of the smallest and the largest networks")
        found = estimate(checked, max(0, spec.budget.trials - ended), workers, trained)
    return Check(
        study=spec.study,
        images=_images(checked),
        space={name: space_size(space) for name, space in checked.spaces.items()},
        trials=spec.budget.trials,
        ended=ended,
        workers=workers,
        gpus_per_trial=spec.run.gpus_per_trial,
        estimate=found,
        cluster=cluster,
    )


def lines(check: Check) -> Iterator[str]:
    """What was found, a line each, for a terminal."""
    images, found = check.images, check.estimate
    channels, height, width = images.shape
    sizes = ", ".join(f"{side} x {side}" for side in images.sides) or f"{height} x {width}"
    yield (
        f"images    {images.train:,} to train on, {images.validation:,} for validation, {images.test:,} for test; "
        f"{sizes}, {'gray' if channels == 1 else 'RGB'}; {images.classes} classes"
    )
    for name, size in check.space.items():
        yield f"space     {name}: {_space_text(size)}"
    yield f"networks  from {_size_text(found.smallest)}"
    if found.largest is not found.smallest:
        yield f"          to {_size_text(found.largest)}"
    if found.beyond:
        yield f"limits    {found.beyond} of {found.sizes} sizes are beyond them, and are not trained"
    if check.cluster:
        yield f"cluster   {check.cluster}"
    done = f", of which {check.ended} have ended" if check.ended else ""
    yield f"trials    {check.trials}{done}"
    if check.ended >= check.trials:
        yield "time      none, all trials have ended"
        return
    at_once = f", {check.workers} at once" if check.workers > 1 else ""
    at_once += f", {check.gpus_per_trial} of it a trial" if check.gpus_per_trial > 1 else ""
    where = "on nodes as fast as this machine" if check.cluster else "on this machine"
    yield f"time      {_range(*map(time_text, found.seconds))} {where} ({found.device}{at_once})"
    yield f"disk      {_range(*map(file_size, found.disk))} of checkpoints"


def _images(checked: CheckedStudy) -> Images:
    wanted, task = data_spec(checked.spec), checked.task
    data, test = load_data(wanted), test_images_of(wanted)
    return Images(
        train=len(data.train),
        validation=len(data.validation),
        test=len(test.labels) if test else 0,
        shape=(task.channels, task.height, task.width),
        classes=task.classes,
        sides=checked.spec.image_sizes,
    )


def _ended(settings: Settings, study: str) -> tuple[int, int]:
    """The study's trials that have ended, and the baselines that are trained."""
    record, _ = stored_study(settings, study)
    if record is None:
        return 0, 0
    with closing(Store.open(settings.database_url)) as store:
        count = store.trial_counts(study)
    trials = sum(count.get((Kind.SEARCH, state), 0) for state in ENDED)
    return trials, count.get((Kind.BASELINE, State.COMPLETE), 0)


def _space_text(size: SpaceSize) -> str:
    many = f"{size.combinations:,}" if size.combinations < 10**9 else f"{size.combinations:.1e}"
    count = f"{many} combination{'s' * (size.combinations != 1)}"
    if not size.continuous:
        return count
    return f"continuous: {count}, each over ranges of {', '.join(size.continuous)}"


def _size_text(size: Size) -> str:
    network = network_text(size.dynamic.family.name, size.dynamic.baseline().params)
    shape = size.shape
    return (
        f"{network} ({macs_text(shape.macs)} MACs, {macs_text(shape.parameters)} parameters "
        "without gates)"
    )


def _range(low: str, high: str) -> str:
    return f"about {low}" if low == high else f"about {low} to {high}"
