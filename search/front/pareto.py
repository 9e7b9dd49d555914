"""The front of the operating points that no other beats, and its hypervolume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

import moocore
import numpy as np
from numpy.typing import NDArray

from search.front.curves import ReferencePoint, volume
from search.objectives import MACS, Costs, Reference
from storage.records import OperatingPoint, PointRecord

Measured = TypeVar("Measured", bound=OperatingPoint)
Values = NDArray[np.float64]  # (points, 1 + costs): accuracy, then costs


def front(points: Iterable[Measured], costs: Costs = (MACS,)) -> list[Measured]:
    """The points that no other beats (higher accuracy, lower costs), cheapest first.

    Of several with equal accuracy and costs the first stays. Points that are not finite are left out.
    """
    given = list(points)
    return [given[i] for i in front_rows(_values(given, costs))]


def front_rows(values: Values) -> NDArray[np.int64]:
    """Which rows of (accuracy, cost, ...) no other beats, cheapest first; see `front`."""
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(finite):
        return finite
    costs = values.shape[1] - 1
    kept = finite[moocore.is_nondominated(values[finite], maximise=[True, *[False] * costs])]
    # without a cost one row is left, the most accurate
    return kept[np.argsort(values[kept, -1 if not costs else 1], kind="stable")]


def hypervolume(
    points: Iterable[PointRecord], *, costs: Costs = (MACS,), reference: Reference
) -> float:
    """The share in [0, 1] of what lies between the reference and (accuracy 1, costs 0) that the points dominate.

    A point beyond the reference (below chance, or more expensive than the largest baseline) adds nothing.
    """
    return volume(reference_point_of(reference, costs).curve(_values(list(points), costs)))


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


def _values(points: Sequence[OperatingPoint], costs: Costs) -> Values:
    """(points, 1 + costs): their accuracy, then costs."""
    columns = [[p.accuracy for p in points], *([cost.of(p) for p in points] for cost in costs)]
    return np.array(columns, dtype=np.float64).T
