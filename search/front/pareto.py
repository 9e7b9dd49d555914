"""The front of the operating points that no other beats, and its hypervolume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

import moocore
import numpy as np

from search.front.curves import ReferencePoint, volume
from search.objectives import MACS, Costs, Reference
from storage.records import OperatingPoint, PointRecord

Measured = TypeVar("Measured", bound=OperatingPoint)


def front(points: Iterable[Measured], costs: Costs = (MACS,)) -> list[Measured]:
    """The points that no other beats (higher accuracy, lower costs), cheapest first.

    Of several with equal accuracy and costs the first stays. Points that are not finite are left out.
    """
    finite, values = _finite(points, costs)
    if not finite:
        return []
    kept = moocore.is_nondominated(values, maximise=[True, *[False] * len(costs)])
    first = costs[0] if costs else MACS
    return sorted((p for p, keep in zip(finite, kept, strict=True) if keep), key=first.of)


def hypervolume(
    points: Iterable[PointRecord], *, costs: Costs = (MACS,), reference: Reference
) -> float:
    """The share in [0, 1] of what lies between the reference and (accuracy 1, costs 0) that the points dominate.

    A point beyond the reference (below chance, or more expensive than the largest baseline) adds nothing.
    """
    finite, values = _finite(points, costs)
    if not finite:
        return 0.0
    return volume(reference_point_of(reference, costs).curve(values))


def reference_point_of(reference: Reference, costs: Costs) -> ReferencePoint:
    """What losses are measured in."""
    return ReferencePoint(reference.accuracy, tuple(reference.of(cost) for cost in costs))


def hypervolume_history(
    points: Iterable[PointRecord],
    *,
    reference: Reference,
    costs: Costs = (MACS,),
    known: Sequence[PointRecord] = (),
) -> list[tuple[int, float, int]]:
    """(trial, hypervolume, points on the front) after each trial, for points in the order of finishing.

    Only the front is carried from trial to trial. To go on from an earlier call, give the new trials' points
    and, as `known`, the front so far: the cost of a trial then does not grow with the study.
    """
    members, history = list(known), []
    for (_, trial), added in groupby(points, key=lambda p: p.training):
        members = front([*members, *added], costs)
        history.append(
            (trial, hypervolume(members, costs=costs, reference=reference), len(members))
        )
    return history


def _finite(points: Iterable[Measured], costs: Costs) -> tuple[list[Measured], np.ndarray]:
    """The finite points, and (points, 1 + costs): their accuracy, then costs."""
    given = list(points)
    columns = [[p.accuracy for p in given], *([cost.of(p) for p in given] for cost in costs)]
    values = np.array(columns, dtype=np.float64).T
    finite = np.isfinite(values).all(axis=1)
    return [given[i] for i in np.flatnonzero(finite)], values[finite]
