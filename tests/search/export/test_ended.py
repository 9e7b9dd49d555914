"""Thresholds of a network that ends at an exit."""

from __future__ import annotations

from search.export.ended import ended_knobs
from spaces.contract.knobs import Knobs


def test_exits_before_the_end_keep_their_thresholds_and_nobody_passes_it() -> None:
    knobs = Knobs(
        tau=0.3,
        exit_rule="margin",
        exit_thresholds=(0.5, 0.6, 0.7, 0.8),
        exit_temperatures=(1.0, 1.1, 1.2, 1.3),
        fallback="ensemble",
    )
    ended = ended_knobs(knobs, 2, exits=3)
    assert (ended.exit_rule, ended.tau, ended.fallback) == ("margin", 0.3, "deepest")
    assert ended.exit_thresholds == (0.5, -1.0, 1.0)
    assert ended.exit_temperatures == knobs.exit_temperatures
    assert ended_knobs(knobs, 1, exits=3).exit_thresholds == (-1.0, 1.0, 1.0)


def test_a_point_without_exits_ends_where_all_images_get() -> None:
    ended = ended_knobs(Knobs(policy="always_on"), 3, exits=3)
    assert (ended.exit_rule, ended.exit_thresholds) == ("maxprob", (1.0, 1.0, -1.0))
