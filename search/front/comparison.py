"""Whether one operating point is better than another by more than chance, and which are of any use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from storage.records import OperatingPoint
from trainers.metrics import METRICS
from trainers.significance import ONE_SIDED, Share, Z, difference_of

Measured = TypeVar("Measured", bound=OperatingPoint)


def better(first: OperatingPoint, second: OperatingPoint, flattery: float = 0.0) -> bool:
    """Whether the first is more accurate at 95 %: by its metric's test over the same validation images.

    With `flattery`, by how much the first's accuracy is too high because of how it was chosen, it has to be ahead by
    more than that. Points from before it was kept what they answer are compared by their intervals, which sees less.
    """
    if first.right is None or second.right is None:
        return difference_of(_share(first), _share(second)).low > flattery
    ahead = METRICS[first.metric].better(first.right, second.right)
    return ahead and (flattery <= 0 or _lead(first, second, flattery) >= Z)


def at_least(first: OperatingPoint, second: OperatingPoint, least: float) -> bool:
    """Whether the first's accuracy minus the second's is at least this, with 95 % confidence; it may be negative."""
    if first.right is None or second.right is None:
        return difference_of(_share(first), _share(second)).low >= least
    return _lead(first, second, least) >= ONE_SIDED


def _lead(first: OperatingPoint, second: OperatingPoint, least: float) -> float:
    """How surely the first is ahead by more than this, in deviations; both have what they answer."""
    assert first.right is not None
    assert second.right is not None
    return METRICS[first.metric].lead(first.right, second.right, first.accuracy, least)


def better_than_majority(points: Iterable[Measured], majority: float) -> list[Measured]:
    """The points that are more accurate at 95 % than always answering the most frequent class, which has `majority`."""
    return [p for p in points if p.accuracy_low > majority]


def _share(point: OperatingPoint) -> Share:
    return Share(point.accuracy, point.accuracy_low, point.accuracy_high)
