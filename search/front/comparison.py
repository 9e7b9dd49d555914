"""Whether one operating point is better than another by more than chance, and which are of any use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from storage.records import OperatingPoint
from trainers.metrics import METRICS
from trainers.significance import Share, difference_of

Measured = TypeVar("Measured", bound=OperatingPoint)


def better(first: OperatingPoint, second: OperatingPoint) -> bool:
    """Whether the first is more accurate at 95 %: by its metric's test over the same validation images.

    Points from before it was kept what they answer are compared by their intervals, which sees less.
    """
    if first.right is not None and second.right is not None:
        return METRICS[first.metric].better(first.right, second.right)
    return difference_of(_share(first), _share(second)).low > 0


def better_than_majority(points: Iterable[Measured], majority: float) -> list[Measured]:
    """The points that are more accurate at 95 % than always answering the most frequent class, which has `majority`."""
    return [p for p in points if p.accuracy_low > majority]


def _share(point: OperatingPoint) -> Share:
    return Share(point.accuracy, point.accuracy_low, point.accuracy_high)
