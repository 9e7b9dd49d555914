"""Which point a rule picks within bounds."""

from __future__ import annotations

from search.front.within import Bounds, picked
from search.objectives import MACS_P95
from tests.points import point


def test_the_fastest_point_keeps_a_limit_on_what_the_study_minimises() -> None:
    """Its order is by latency, but a limit on MACs is on their 95th percentile still."""
    uneven = point(0.9, 1e6, 1, macs_p95=5e6, extra={"latency_mean": 1.0})
    even = point(0.91, 1.2e6, 2, macs_p95=2e6, extra={"latency_mean": 2.0})
    slow = point(0.92, 1e6, 3, macs_p95=2e6, extra={"latency_mean": 3.0})
    points = [uneven, even, slow]
    assert picked("fastest", Bounds(), points, [], MACS_P95).trial == 1
    assert picked("fastest", Bounds(max_macs=3e6), points, [], MACS_P95).trial == 2
