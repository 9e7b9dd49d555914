"""A machine that is no longer as fast as its latency table says is named."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.export import timed_points
from search.export.predicted import machine_text, predicted_rows
from search.export.timed_points import PointTimer
from search.latency.drift import MOST, drift_text
from storage.records import Kind, PointRecord
from tests.points import point


def test_a_static_network_that_takes_about_what_the_table_says_tells_nothing() -> None:
    for measured in (1.01 * 4 / MOST, 4.0, 0.99 * 4 * MOST):
        assert drift_text(measured, 4.0) is None
    for unknown in (None, 0.0, inf):
        assert drift_text(9.0, unknown) is None


def test_one_that_takes_another_time_says_how_the_machine_has_changed() -> None:
    text = drift_text(6.0, 4.0)
    assert text is not None
    assert "takes 6 ms where the latency table says 4 ms" in text
    assert "1.50 times as slow now as when it was profiled" in text
    assert "2.00 times as fast now" in (drift_text(2.0, 4.0) or "")


def test_an_export_says_it_with_what_it_measured() -> None:
    found = {"predicted_ms": 2.0, "measured_ms": 3.0, "static_ms": 6.0, "ratio": 1.5, "table": "t"}
    report = {"predicted": found | {"static_predicted_ms": 4.0}}
    assert machine_text(report) == drift_text(6.0, 4.0)
    assert ("the machine at export", machine_text(report)) in list(predicted_rows(report))
    for other in (
        {"predicted": found},  # an older export
        {"predicted": found | {"static_predicted_ms": 5.9}},
        {"predicted": {"predicted_ms": 2.0, "why": "another machine"}},
        {"predicted": None},
    ):
        assert machine_text(other) is None


def test_points_that_are_timed_say_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    static = point(0.8, 4e6, 7, kind=Kind.BASELINE, extra={"latency_mean": 4.0})
    kept = list[Any]()
    store = SimpleNamespace(add_timing=lambda *timing: kept.append(timing))
    spec = SimpleNamespace(cost=timed_points.LATENCY)
    timer = PointTimer(*cast(Any, (store, spec, None, None, [static])))
    monkeypatch.setattr(PointTimer, "_network", lambda self, p: (None, None, None))
    monkeypatch.setattr(PointTimer, "_baseline", lambda self, p: (None, None))
    monkeypatch.setattr(timed_points, "whole_ms", lambda *of: [3.0, 6.0])
    said = list[str]()

    def timed(*points: PointRecord) -> None:
        for one in points:
            assert timer.timed(one, said.append, lambda line: None) == 3.0

    timed(*[point(0.8, 2e6, n, extra={"latency_mean": 2.0}, id=n) for n in (1, 2)])
    assert said == [drift_text(6.0, 4.0)]
    assert kept == [(1, 3.0, 6.0), (2, 3.0, 6.0)]
