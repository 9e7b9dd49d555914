"""Which stored operating points may join a front, and a training's points as a curve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from search.front.curves import Curve, ReferencePoint
from search.objectives import Cost, Reference
from spaces.contract.knobs import are_random
from storage.records import Kind, OperatingPoint

ON_OFFER = (Kind.SEARCH, Kind.BASELINE, Kind.CASCADE)  # whose points may join a front
Measured = TypeVar("Measured", bound=OperatingPoint)


def repeatable(points: Iterable[Measured]) -> list[Measured]:
    """The points whose answers depend on no random draw: only these can be shipped as they were measured."""
    return [p for p in points if not are_random(p.knobs)]


def eligible(points: Iterable[Measured], reference: Reference) -> list[Measured]:
    """The points that may join a front: repeatable, and better than chance."""
    return [p for p in repeatable(points) if p.accuracy > reference.accuracy]


def curve_of(
    points: Iterable[OperatingPoint], reference: ReferencePoint, costs: Sequence[Cost]
) -> Curve:
    """The curve of one training's repeatable operating points."""
    return reference.curve(
        [(p.accuracy, *(cost.of(p) for cost in costs)) for p in repeatable(points)]
    )


def chosen_of(points: Sequence[Measured]) -> Measured:
    """The point that the training was made for."""
    return next((p for p in points if p.chosen), points[0])
