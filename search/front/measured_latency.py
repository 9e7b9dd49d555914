"""Latencies of points corrected by those of them that were timed as whole networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from statistics import median

from search.objectives import LATENCY
from storage.records import TIMED, PointRecord


def as_measured(points: Sequence[PointRecord], ratio: float | None = None) -> list[PointRecord]:
    """The points with the latency (mean, ms) that each was measured at.

    Of one that was not timed, its prediction times `ratio`: without it, the median of measured over predicted. So are
    all where none was timed: as predicted.
    """
    ratio = typical_ratio(points) if ratio is None else ratio
    return [_corrected(p, ratio) for p in points]


def typical_ratio(points: Iterable[PointRecord]) -> float:
    """Measured latency over the predicted one, median over the points that were timed; 1 where none was."""
    timed = {p.id or id(p): p for p in points if TIMED in p.extra and LATENCY.of(p) > 0}
    ratios = [p.extra[TIMED] / LATENCY.of(p) for p in timed.values()]
    return median(ratios) if ratios else 1.0


def _corrected(point: PointRecord, ratio: float) -> PointRecord:
    predicted = LATENCY.of(point)
    if not isfinite(predicted):
        return point
    ms = point.extra.get(TIMED, predicted * ratio)
    return replace(point, extra={**point.extra, LATENCY.column: ms})
