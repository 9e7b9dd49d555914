"""Two studies' fronts side by side: hypervolume, coverage, the best accuracy within budgets, each with its interval.

Shapes: P points, D objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.front.bootstrap import interval, resampled_volumes
from search.front.comparison import better
from search.front.metric import metric_of
from search.front.pareto import hypervolume, reference_point_of
from search.front.stored import study_cost, study_costs, study_front
from search.latency.table import read_table
from search.objectives import LATENCY, Cost, Costs, Reference
from storage.records import PointRecord, StudyRecord
from storage.store import Store
from trainers.metrics import Metric

SAME = (
    "validation",
    "validation_limit",
    "seed",
    "test",
    "skip_broken",
)  # keys that choose the validation images

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Within:
    """The best point of each study within a budget, if it has one, and which is significantly better."""

    budget: float
    points: tuple[PointRecord | None, PointRecord | None]
    better: int | None  # 0 or 1


@dataclass(frozen=True)
class Comparison:
    """Two studies beside each other; every pair is in the order of `names`.

    `coverage`: the share of the other study's front that a point of this one equals or beats. `difference` is the
    first's hypervolume minus the second's. Intervals are None where it was not kept which images points answer rightly.
    """

    names: tuple[str, str]
    metric: Metric
    cost: Cost
    members: tuple[Sequence[PointRecord], Sequence[PointRecord]]
    volumes: tuple[float, float]
    volume_intervals: tuple[Interval, Interval]
    difference_interval: Interval
    coverage: tuple[float, float]
    within: tuple[Within, ...]
    same_images: bool


def compare(
    store: Store, records: tuple[StudyRecord, StudyRecord], budgets: Sequence[float] = ()
) -> Comparison:
    """Compare two stored studies. Raises ValueError where their fronts are of different things, or one has none.

    Hypervolumes are measured from one reference point: the lower accuracy of guessing, the larger costs of the two.
    """
    first, second = records
    _check_comparable(first, second)
    same = same_images(store, first, second)
    one, two = (list(study_front(store, record).members) for record in records)
    for record, members in ((first, one), (second, two)):
        if not members:
            raise ValueError(
                f"study {record.name} has no front yet; see dynafront status {record.name}"
            )
    compared = [one, two] if same else [_without_answers(one), _without_answers(two)]
    costs, cost = study_costs(first), study_cost(first)
    reference = common_reference(first, second)
    intervals = _intervals(one, two, costs, reference, paired=same)
    limits = budgets or usual_budgets(one, two, cost)
    return Comparison(
        names=(first.name, second.name),
        metric=metric_of(one),
        cost=cost,
        members=(one, two),
        volumes=(
            hypervolume(one, costs=costs, reference=reference),
            hypervolume(two, costs=costs, reference=reference),
        ),
        volume_intervals=intervals[:2],
        difference_interval=intervals[2],
        coverage=(coverage(one, two, costs), coverage(two, one, costs)),
        within=tuple(_within(compared, limit, cost) for limit in limits),
        same_images=same,
    )


def _without_answers(members: Sequence[PointRecord]) -> list[PointRecord]:
    """As points of different images are compared: which of them are answered rightly says nothing."""
    return [replace(p, right=None) for p in members]


def _check_comparable(first: StudyRecord, second: StudyRecord) -> None:
    for key, what in (("objectives", "objectives"), ("data", "images")):
        ours, theirs = first.spec[key], second.spec[key]
        if ours != theirs:
            raise ValueError(
                f"{first.name} and {second.name} have different {what} ({_text(ours)}, {_text(theirs)}): their fronts "
                "cannot be compared"
            )
    _check_same_machine(first, second)


def _check_same_machine(first: StudyRecord, second: StudyRecord) -> None:
    """Milliseconds of two machines are of no common unit. A table that is gone says nothing."""
    if LATENCY.name not in first.spec["objectives"]:
        return
    try:
        ours, theirs = (read_table(Path(one.spec["latency"])).words for one in (first, second))
    except (TypeError, ValueError):
        return
    if ours != theirs:
        raise ValueError(
            f"the latencies of {first.name} are of {ours}, those of {second.name} of {theirs}: their fronts cannot be "
            "compared"
        )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def same_images(store: Store, first: StudyRecord, second: StudyRecord) -> bool:
    """Whether both were measured on the same validation images, as far as that is known."""
    data: list[Mapping[str, Any]] = [store.data(one.name) for one in (first, second)]
    known = all("digest" in one for one in data) and data[0]["digest"] == data[1]["digest"]
    return known and all(first.spec.get(key) == second.spec.get(key) for key in SAME)


def common_reference(first: StudyRecord, second: StudyRecord) -> Reference:
    """What both fronts are measured from."""
    accuracy = min(one.reference["accuracy"] for one in (first, second))
    measures = [set(one.reference) - {"accuracy"} for one in (first, second)]
    largest = {
        measure: max(first.reference[measure], second.reference[measure])
        for measure in measures[0] & measures[1]
    }
    return Reference(accuracy=accuracy, **largest)


def coverage(ours: Sequence[PointRecord], theirs: Sequence[PointRecord], costs: Costs) -> float:
    """The share of their points that one of ours equals or beats in every objective.

    Zitzler and Thiele, "Multiobjective Evolutionary Algorithms: A Comparative Case Study and the Strength Pareto
    Approach", IEEE Transactions on Evolutionary Computation, 1999.
    """
    ours_PD, theirs_PD = _losses(ours, costs), _losses(theirs, costs)
    covered = [bool((ours_PD <= their_D).all(axis=1).any()) for their_D in theirs_PD]
    return sum(covered) / len(covered)


def _losses(points: Sequence[PointRecord], costs: Costs) -> NDArray[np.float64]:
    return np.array([(-p.accuracy, *(cost.of(p) for cost in costs)) for p in points])


def usual_budgets(
    one: Sequence[PointRecord], two: Sequence[PointRecord], cost: Cost
) -> tuple[float, ...]:
    """Three budgets: what both have a point within, all that either has, and halfway between on a log scale."""
    low = max(min(map(cost.of, one)), min(map(cost.of, two)))
    high = max(max(map(cost.of, one)), max(map(cost.of, two)))
    return tuple(dict.fromkeys((low, (low * high) ** 0.5, high)))


def _within(members: Sequence[Sequence[PointRecord]], budget: float, cost: Cost) -> Within:
    best = [
        max((p for p in own if cost.of(p) <= budget), key=lambda p: p.accuracy, default=None)
        for own in members
    ]
    ahead = None
    if (one := best[0]) is not None and (two := best[1]) is not None:
        if better(one, two):
            ahead = 0
        elif better(two, one):
            ahead = 1
    return Within(budget, (best[0], best[1]), ahead)


def _intervals(
    one: Sequence[PointRecord],
    two: Sequence[PointRecord],
    costs: Costs,
    reference: Reference,
    *,
    paired: bool,
) -> tuple[Interval, Interval, Interval]:
    """95 % intervals of both hypervolumes and of their difference, by a bootstrap over the validation images.

    Where the images are the same, both fronts see the same resamples.
    """
    corner = reference_point_of(reference, costs)
    ours = resampled_volumes(one, costs, corner, seed=0)
    theirs = resampled_volumes(two, costs, corner, seed=0 if paired else 1)
    first = None if ours is None else interval(ours)
    second = None if theirs is None else interval(theirs)
    if ours is None or theirs is None:
        return first, second, None
    return first, second, interval(ours - theirs)
