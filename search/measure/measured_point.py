"""What was measured image by image as one operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.latency.predict import NetLatency, latency_summary
from spaces.contract.knobs import Knobs
from storage.records import OperatingPoint
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
    value, low, high = metric.measure(table.answers)
    # rates that the knobs were set with (prune, scale), else those measured under them
    shown = {gate: list(units) for gate, units in (rates or table.rates).items()}
    extra = {"rates": shown, "accuracy_std": _deviation(table, metric)}
    if metric is not ACCURACY:
        extra |= {"metric": metric.name, "top1": table.accuracy}
    if clock is not None and table.ran is not None:
        extra |= latency_summary(clock.of(knobs, _tuples(shown), table.ran))
    return OperatingPoint(
        knobs=knobs.as_dict(),
        accuracy=value,
        accuracy_low=low,
        accuracy_high=high,
        macs_mean=table.macs_mean,
        macs_p95=table.macs_p95,
        macs_max=table.macs_max,
        parameters=parameters,
        extra=extra | dict(more or {}),
        right=metric.packed(table.answers),
    )


def _tuples(rates: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Rates as networks take them."""
    return {gate: tuple(units) for gate, units in rates.items()}


def _deviation(table: Table, metric: Metric) -> float:
    """Sample standard deviation of the accuracy over passes; 0 for one pass."""
    each = [metric.measure(one).value for one in table.answers.passes()]
    return float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
