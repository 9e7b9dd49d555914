"""By which metric points were measured, as people read it."""

from __future__ import annotations

from collections.abc import Iterable

from storage.records import OperatingPoint
from trainers.metrics import ACCURACY, METRICS, Metric


def metric_of(points: Iterable[OperatingPoint]) -> Metric:
    """By which metric the points of one study were measured; accuracy where there is none."""
    return METRICS[next((p.metric for p in points), ACCURACY.name)]


def named(value: str, metric: Metric) -> str:
    """A value of the metric with its name, "81.2 % balanced accuracy"; of accuracy alone as it is."""
    return value if metric is ACCURACY else f"{value} {metric.label}"
