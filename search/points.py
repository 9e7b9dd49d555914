"""Stored operating points as points of a front, and which of them may join one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from search.curves import Box, Curve
from search.front import Costs, Point, Reference, costs_of
from spaces.net import Knobs
from storage.records import Kind

ON_OFFER: tuple[Kind, ...] = ("search", "static")  # whose points may join a front


def standing(points: Iterable[Point], reference: Reference) -> list[Point]:
    """The points that may join a front: better than chance, and with answers that hang on no draw.

    Stochastic and ensemble settings are measured for comparison, but cannot be shipped as they were measured.
    """
    settled = (p for p in points if not Knobs(**p.knobs).random)
    return [p for p in settled if p.accuracy > reference.accuracy]


def curve_of(points: Sequence[Any], box: Box, cost: Costs) -> Curve:
    """The curve of one training's operating points, given as mappings; those that hang on a draw are left out."""
    costs = costs_of(cost)
    settled = [p for p in points if not Knobs(**p["knobs"]).random]
    return box.curve([(p["accuracy"], *(p[one] for one in costs)) for p in settled])


def as_point(record: Any) -> Point:
    """A front's point from a stored one."""
    return Point(
        trial=record.trial,
        family=record.family,
        kind=record.kind,
        accuracy=record.accuracy,
        accuracy_low=record.accuracy_low,
        accuracy_high=record.accuracy_high,
        macs_mean=record.macs_mean,
        macs_p95=record.macs_p95,
        macs_max=record.macs_max,
        parameters=record.parameters,
        knobs=record.knobs,
        params=record.params,
        run_id=record.run_id,
        id=record.id,
    )
