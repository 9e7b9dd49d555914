"""Which points of a study are drawn, and down to which accuracy: the same on the page and in the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from operator import attrgetter
from typing import TypeVar

import numpy as np

from search.objectives import Cost
from storage.records import Kind, PointRecord

Drawn = TypeVar("Drawn")

NUMBERS = ("accuracy", "accuracy_low", "accuracy_high", "macs_mean", "macs_p95", "macs_max")
numbers = attrgetter(*NUMBERS)


def points_to_draw(
    points: Sequence[PointRecord],
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost,
) -> tuple[list[PointRecord], list[PointRecord], list[PointRecord]]:
    """Points off the front, the front and the baselines, each finite, each point in one of them."""

    def finite(some: Iterable[PointRecord]) -> list[PointRecord]:
        return [p for p in some if all(map(isfinite, numbers(p)))]

    def same(p: PointRecord) -> tuple[Kind, int, float, float]:
        return (*p.training, p.accuracy, p.macs_mean)

    elsewhere = {same(p) for p in (*front, *baselines)}
    cloud = [p for p in finite(points) if p.kind != "static" and same(p) not in elsewhere]

    def by_cost(some: Iterable[PointRecord]) -> list[PointRecord]:
        return sorted(finite(some), key=cost.of)

    return cloud, by_cost(front), by_cost(baselines)


def lowest_accuracy(
    cloud: Sequence[PointRecord], front: Sequence[PointRecord], baselines: Sequence[PointRecord]
) -> float:
    """The lowest accuracy that is drawn: all of the front and the baselines, and nearly all others."""
    lowest = [min(p.accuracy, p.accuracy_low) for p in (*front, *baselines)]
    if cloud:
        lowest.append(float(np.quantile([p.accuracy for p in cloud], 0.05)))
    return min(lowest, default=0.0)


def thinned(points: Sequence[Drawn], most: int) -> list[Drawn]:
    """The points, or of more than `most` so many, evenly, both ends among them."""
    return [points[i] for i in evenly(len(points), min(len(points), most))]


def evenly(count: int, kept: int) -> list[int]:
    """`kept` indexes below `count`, both ends among them when there are two."""
    return [int(i) for i in np.linspace(0, count - 1, kept).round()] if kept else []
