"""Thresholds of single gates: which are tried, and which points are kept."""

from __future__ import annotations

import pytest

from search.measure.gate_points import GATE_PASSES, GOOD, Step, gate_threshold_points, steps_from
from spaces.contract.knobs import Knobs
from spaces.contract.policies import Gate
from storage.records import OperatingPoint
from tests.points import operating_point


def gates(*macs: float) -> list[Gate]:
    return [
        Gate(name=f"g{i}", kind="layer", block=i, units=1, offset=i, macs=m)
        for i, m in enumerate(macs)
    ]


def point(knobs: Knobs, accuracy: float, macs: float, *rates: float) -> OperatingPoint:
    named = {f"g{i}": [rate] for i, rate in enumerate(rates)}
    return operating_point(accuracy, macs, knobs=knobs.as_dict(), extra={"rates": named})


COMMON = [
    point(Knobs(tau=0.1), 0.92, 110.0, 1.0, 1.0, 1.0),
    point(Knobs(tau=0.3), 0.92, 100.0, 1.0, 1.0, 0.9),
    point(Knobs(tau=0.5), 0.90, 70.0, 0.8, 1.0, 0.8),
    point(Knobs(tau=0.7), 0.70, 40.0, 0.8, 0.0, 0.1),
]


def test_steps_are_ranked_by_the_macs_that_they_move() -> None:
    common = {p.knobs["tau"]: p.extra["rates"] for p in COMMON}
    found = steps_from(0.5, common, gates(100.0, 1000.0, 10.0))
    # gate 0 stays as it is up to 0.7, gate 1 decides the same for every image
    assert [(s.gate, s.tau, pytest.approx(s.macs)) for s in found] == [
        ("g0", 0.3, 20.0),
        ("g2", 0.7, 7.0),
        ("g2", 0.3, 1.0),
    ]
    assert isinstance(found[0], Step)


def test_a_step_that_joins_the_front_is_kept_and_gone_on_from() -> None:
    tried: list[dict[str, float]] = []
    answers = iter([(0.95, 90.0), (0.94, 60.0), (0.10, 65.0)])

    def measure(knobs: Knobs) -> OperatingPoint:
        tried.append(dict(knobs.tau))
        return point(knobs, *next(answers), 0.5, 1.0, 0.5)

    kept = gate_threshold_points(COMMON, gates(100.0, 1000.0, 10.0), 0.5, measure)
    assert tried == [
        {"g0": 0.3, "g1": 0.5, "g2": 0.5},
        {"g0": 0.3, "g1": 0.5, "g2": 0.7},
        {"g0": 0.3, "g1": 0.5, "g2": 0.3},
    ]
    assert [p.accuracy for p in kept] == [0.95, 0.94]


def test_a_step_far_below_the_best_is_kept_but_not_gone_on_from() -> None:
    tried: list[dict[str, float]] = []
    answers = iter([(0.92 - GOOD - 0.01, 41.0), (0.5, 100.0), (0.5, 100.0)])

    def measure(knobs: Knobs) -> OperatingPoint:
        tried.append(dict(knobs.tau))
        return point(knobs, *next(answers), 0.5, 1.0, 0.5)

    kept = gate_threshold_points(COMMON, gates(100.0, 1000.0, 10.0), 0.5, measure)
    assert [p.macs_mean for p in kept] == [41.0]
    assert tried[1] == {"g0": 0.5, "g1": 0.5, "g2": 0.7}


def test_with_one_gate_that_looks_at_the_image_nothing_is_tried() -> None:
    def refuse(knobs: Knobs) -> OperatingPoint:
        raise AssertionError("a pass was spent")

    assert gate_threshold_points(COMMON, gates(100.0, 1000.0), 0.5, refuse) == []


def test_the_passes_are_limited_however_many_gates_there_are() -> None:
    count = 3 * GATE_PASSES
    points = [point(Knobs(tau=tau), 0.9, 100 - tau, *[1 - tau] * count) for tau in (0.3, 0.5, 0.7)]
    spent: list[Knobs] = []

    def measure(knobs: Knobs) -> OperatingPoint:
        spent.append(knobs)
        return point(knobs, 0.5, 100.0, *[0.5] * count)

    assert gate_threshold_points(points, gates(*[1.0] * count), 0.5, measure) == []
    assert len(spent) == GATE_PASSES
