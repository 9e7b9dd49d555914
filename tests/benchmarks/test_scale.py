"""A study on a Ray cluster of one node and of two, whose trainings sleep."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")
from benchmarks.scale import measured
from tests.search.run.ray_nodes import minutes

pytestmark = [pytest.mark.slow, minutes]
ROUNDS, SECONDS = 2, 4.0


def test_two_nodes_train_side_by_side_and_no_faster_than_they_sleep() -> None:
    one, two = measured([1, 2], ROUNDS, SECONDS)
    assert (one["nodes"], one["trials"], one["share"]) == (1, ROUNDS, 1.0)
    assert (two["nodes"], two["trials"]) == (2, 2 * ROUNDS)
    for row in (one, two):
        assert row["seconds"] >= ROUNDS * SECONDS
        assert row["of_sleep"] == pytest.approx(ROUNDS * SECONDS / row["seconds"], abs=0.01)
        assert row["trials_an_hour"] == pytest.approx(
            3600 * row["trials"] / row["seconds"], rel=0.01
        )
    assert two["share"] > 0.55, "one after the other it would be half"
