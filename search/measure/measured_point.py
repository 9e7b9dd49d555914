"""What was measured image by image as one operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from search.latency.predict import NetLatency, latency_summary
from spaces.contract.knobs import Knobs
from storage.records import OperatingPoint, rates_of
from trainers.evaluate import Table
from trainers.metrics import ACCURACY, Metric


def measured_point(
    knobs: Knobs,
    table: Table,
    metric: Metric,
    *,
    parameters: int,
    rates: Any = None,
    clock: NetLatency | None = None,
    more: Mapping[str, Any] | None = None,
) -> OperatingPoint:
    """A setting of a network with these outcomes; its accuracy is what the metric says, beside top-1 in `extra`.

    `rates` are the gates' open rates that the knobs were set with, `more` is kept in `extra` too. With a `clock`,
    mean, 95th percentile and maximum of the latency of an image are kept there.
    """
    # rates that the knobs were set with (prune, scale), else those measured under them
    shown = rates or table.rates
    timed = {}
    if clock is not None and table.ran is not None:
        timed = latency_summary(clock.of(knobs, rates_of(shown), table.ran))
    return table_point(
        knobs.as_dict(),
        table,
        metric,
        parameters=parameters,
        rates=shown,
        more=timed | dict(more or {}),
    )


def table_point(
    knobs: dict[str, Any],
    table: Table,
    metric: Metric,
    *,
    parameters: int,
    more: Mapping[str, Any],
    rates: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> OperatingPoint:
    """An operating point of these outcomes, whatever was measured; `rates` and `more` are kept in `extra`."""
    value, low, high = metric.measure(table.answers)
    shown = {gate: list(units) for gate, units in rates.items()}
    extra: dict[str, Any] = {"rates": shown, "accuracy_std": _deviation(table, metric)}
    if metric is not ACCURACY:
        extra |= {"metric": metric.name, "top1": table.accuracy}
    if (top5 := table.answers.top5) is not None:
        extra["top5"] = top5
    return OperatingPoint(
        knobs=knobs,
        accuracy=value,
        accuracy_low=low,
        accuracy_high=high,
        macs_mean=table.macs_mean,
        macs_p95=table.macs_p95,
        macs_max=table.macs_max,
        parameters=parameters,
        extra=extra | dict(more),
        right=metric.packed(table.answers),
    )


def _deviation(table: Table, metric: Metric) -> float:
    """Sample standard deviation of the accuracy over passes; 0 for one pass."""
    each = [metric.measure(one).value for one in table.answers.passes()]
    return float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
