"""All that is checked before a study may train: device, images, networks, and that the study is still the one begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.commands.begun import as_begun
from search.commands.data_check import check_device, checked_data, class_sizes
from search.commands.side_check import check_sides, side_notes
from search.latency.table import LatencyTable
from search.objectives import LATENCY, Reference, costs_of
from search.run.data import data_spec, load_data, task_of
from search.run.heartbeat import Steps
from search.schedule.sizes import baseline_shapes, sizes
from search.schedule.timed_shapes import shapes_of, table_of, timed_shape
from search.schedule.warm_start import recommended
from search.spec import StudySpec, narrowed_spaces
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.space import Dimension
from spaces.contract.task import Task
from storage.kept_files import CHECKPOINTS, FEATURES
from storage.records import StudyRecord
from storage.remote_store import RemoteStore
from storage.settings import Settings
from storage.store import Store
from storage.urls import sqlite_file
from trainers.initial_weights import start_from

Spaces = Mapping[str, tuple[Dimension, ...]]


@dataclass(frozen=True)
class CheckedStudy:
    """A study that may train: as it is searched, what its record says of the images, and what can be built."""

    spec: StudySpec
    data: dict[str, Any]
    task: Task
    spaces: Spaces
    reference: Reference


def checked_study(
    spec: StudySpec, settings: Settings, step: Steps, *, baselines: bool = False
) -> CheckedStudy:
    """Check what would fail a study before its first training; nothing is stored.

    Raises ValueError, and AwayError for a store of checkpoints that cannot be written.
    """
    if not spec.run.uses_ray:  # whose nodes may have what this machine has not
        check_device(spec.run.device, spec.run.precision)
    if settings.store is not None:
        step(f"reaching {settings.store}")
        for folder in (CHECKPOINTS, FEATURES):
            RemoteStore(f"{settings.store}/{folder}").check()
    known, before = stored_study(settings, spec.study)
    spec = as_begun(spec, known)
    step("reading the images")
    data = checked_data(spec, before, step.say, settings.folder)
    images = load_data(data_spec(spec))
    task = task_of(images)
    spaces = narrowed_spaces(spec)
    if baselines and spec.init_from:
        raise ValueError(
            "--baselines: baselines of other sizes have no weights to start from; leave out init_from or the flag"
        )
    step("building the networks once, to know that they fit the images")
    check_candidates(spec, spaces, task)
    for line in side_notes(spaces, task):
        step.say(line)
    guessing = spec.metric.guessing(class_sizes(images))
    reference = reference_of(spaces, task, guessing, table_of(spec))
    check_same_table(spec, known, reference)
    return CheckedStudy(spec, data, task, spaces, reference)


def check_same_table(spec: StudySpec, known: StudyRecord | None, now: Reference) -> None:
    """Raise ValueError where a stored study's latencies are of other times than the table has now."""
    if known is None or spec.latency is None:
        return
    begun, found = (one.get(LATENCY.measure) for one in (known.reference, now.as_dict()))
    if begun is not None and begun != found:
        raise ValueError(
            f"latency: {spec.latency} has other times than study {spec.study} began with, so its points could not be "
            "compared; bring that table back, or give the file another `study:` name"
        )


def stored_study(settings: Settings, name: str) -> tuple[StudyRecord | None, dict[str, Any]]:
    """The study and what its images were, as they are stored; nothing is made to find out."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return None, {}
    store = Store.open(settings.database_url)
    try:
        return store.find_study(name), store.data(name)
    finally:
        store.close()


def check_candidates(spec: StudySpec, spaces: Any, task: Task) -> None:
    """Build one network of each family: a mistake that would fail all trials is found before anything is stored."""
    for name, space in spaces.items():
        own, values = family(name), recommended(space)
        try:
            usual = Candidate.of(own, values, spec.budget.epochs)
            if not (source := spec.initial(name) or usual.published):
                shapes_of(spec)(usual, task)
                check_sides(own, space, task)
                continue
            for size in sizes(own, space):
                one = Candidate.of(own, values | size, spec.budget.epochs)
                baseline = one.baseline().outline(task)
                start_from(one.build(task, spec.seed), source, baseline.state_dict())
        except ValueError as error:
            key = (
                ""
                if str(error).startswith(("init_from", "image_size", "latency"))
                else f"space.{name}."
            )
            raise ValueError(f"{key}{error}") from None


def reference_of(
    spaces: Any, task: Task, chance: float, latency: LatencyTable | None = None
) -> Reference:
    """`chance`, and a tenth more of each cost than the largest baselines of the narrowed spaces have.

    `chance` is what guessing has by the study's metric. The tenth lets the largest networks, whose gates come on top,
    still count for something. With a table, latency is among the costs.
    """
    shapes = [
        shape
        for name, space in spaces.items()
        for shape in baseline_shapes(family(name), space, task, timed_shape(latency))
    ]
    if not shapes:
        raise ValueError("no network of the space can be built for these images and this table")
    costs = costs_of({"latency": latency})
    largest = {cost.measure: 1.1 * max(map(cost.of_baseline, shapes)) for cost in costs.values()}
    return Reference(accuracy=chance, **largest)
