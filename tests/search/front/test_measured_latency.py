"""Latencies of points corrected by those that were timed as whole networks."""

from __future__ import annotations

from math import inf

import pytest

from search.front.measured_latency import as_measured, typical_ratio
from search.objectives import LATENCY
from tests.points import point


def of(ms: float | None, measured: float | None = None):
    extra = {} if ms is None else {"latency_mean": ms}
    return point(
        0.5, 1e6, extra=extra | ({} if measured is None else {"latency_measured": measured})
    )


def test_predictions_stand_where_nothing_was_timed() -> None:
    points = [of(1.0), of(2.0)]
    assert typical_ratio(points) == 1
    assert [LATENCY.of(p) for p in as_measured(points)] == [1.0, 2.0]


def test_one_that_was_timed_has_what_was_measured_and_others_the_typical_ratio() -> None:
    points = [of(1.0, 1.2), of(2.0), of(4.0, 4.4), of(5.0, 10.0)]
    assert typical_ratio(points) == pytest.approx(1.2)
    assert [LATENCY.of(p) for p in as_measured(points)] == pytest.approx([1.2, 2.4, 4.4, 10.0])
    assert [LATENCY.of(p) for p in points] == [1.0, 2.0, 4.0, 5.0], "the points stay as they were"


def test_one_without_a_prediction_has_none_after_it() -> None:
    assert [LATENCY.of(p) for p in as_measured([of(None), of(1.0, 2.0)])] == [inf, 2.0]
