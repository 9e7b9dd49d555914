"""Thresholds of exits on tables: the same as looking at every image, and a grid of them against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.threshold_searches import SCAN_LEVELS
from search.measure.exit_grid import ExitTable, grid_front, levels_within, totals
from search.measure.exit_thresholds import (
    exhaustive_front,
    exit_outcomes,
    quantile_levels,
    setting,
    thin_out,
)
from search.measure.genetic_thresholds import scores
from tests.exit_tables import drawn


@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
def test_an_image_leaves_at_the_first_exit_that_is_sure(fallback: str) -> None:
    table, thresholds = drawn(3), (0.8, 0.7, 0.9)
    correct, macs, index = exit_outcomes(table, thresholds, fallback)
    for i in range(len(index)):
        sure = [k for k in range(3) if table.confidence[k, i] > thresholds[k]]
        k = sure[0] if sure else 3
        last = table.ensemble[i] if fallback == "ensemble" else table.correct[3, i]
        answers = sure[0] if sure else (4 if fallback == "ensemble" else 3)
        assert (index[i], macs[i]) == (answers, table.macs[k, i])
        assert correct[i] == (table.correct[k, i] if sure else last)


def test_the_ensemble_answers_below_the_threshold_of_the_deepest_head_and_costs_no_more() -> None:
    table = replace(drawn(2), deepest=np.random.default_rng(1).random(200))
    assert table.deepest is not None
    correct, macs, index = exit_outcomes(table, (0.8, 0.7, 0.6), "ensemble")
    left = (table.confidence[0] <= 0.8) & (table.confidence[1] <= 0.7)
    assert (index == 2).sum() > 20
    assert (index == 3).sum() > 20
    assert np.array_equal(index == 2, left & (table.deepest > 0.6))
    assert np.array_equal(index == 3, left & (table.deepest <= 0.6))
    assert np.array_equal(macs[left], table.macs[2, left])
    assert np.array_equal(correct[index == 2], table.correct[2, index == 2])
    assert np.array_equal(correct[index == 3], table.ensemble[index == 3])
    half = np.arange(100)
    assert np.array_equal(
        exit_outcomes(table.of(half), (0.8, 0.7, 0.6), "ensemble")[2], index[:100]
    )


def test_threshold_1_uses_the_fallback_and_one_below_0_the_first_exit() -> None:
    table = drawn()
    assert set(exit_outcomes(table, (1.0, 1.0))[2]) == {2}
    assert set(exit_outcomes(table, (-0.1, 1.0))[2]) == {0}
    assert setting(table, (1.0, 1.0)).accuracy == table.correct[2].mean()
    assert setting(table, (1.0, 1.0), "ensemble").accuracy == table.ensemble.mean()


def test_a_higher_threshold_never_costs_less() -> None:
    table = drawn(3)
    for k in range(3):
        costs = []
        for level in sorted(SCAN_LEVELS):
            vector = [0.8, 0.8, 0.8]
            vector[k] = level
            costs.append(setting(table, vector).macs)
        assert costs == sorted(costs)


def test_the_exhaustive_front_is_what_brute_force_leaves_standing() -> None:
    table, levels = drawn(2, images=80), [(0.6, 0.7, 0.8, 1.0), (0.65, 0.85, 1.0)]
    everything = [setting(table, v) for v in product(*levels)]
    best = [
        s
        for s in everything
        if not any(
            (o.accuracy >= s.accuracy and o.macs < s.macs)
            or (o.accuracy > s.accuracy and o.macs <= s.macs)
            for o in everything
        )
    ]
    found = exhaustive_front(table, levels)
    assert {(s.accuracy, s.macs) for s in found} == {(s.accuracy, s.macs) for s in best}
    assert [s.macs for s in found] == sorted(s.macs for s in found)


def test_thinning_keeps_the_ends_and_no_more_than_asked() -> None:
    front = exhaustive_front(drawn(2), [SCAN_LEVELS] * 2)
    few = thin_out(front, 5)
    assert len(few) <= 5
    assert (few[0], few[-1]) == (front[0], front[-1])
    assert thin_out(front[:3], 5) == front[:3]


def test_levels_lie_between_confidences_and_reach_from_nobody_to_everybody() -> None:
    table = drawn(2)
    for row, levels in zip(table.confidence, quantile_levels(table, 10), strict=True):
        assert (row > levels[0]).all()
        assert not (row > levels[-1]).any()
        assert not set(levels) & set(row)


@pytest.mark.parametrize("count", [3, 4, 6])
def test_of_few_levels_too_some_let_a_share_of_the_images_leave(count: int) -> None:
    table = drawn(2)
    for row, levels in zip(table.confidence, quantile_levels(table, count), strict=True):
        shares = [float((row > level).mean()) for level in levels]
        assert len(levels) == count
        assert all(0.15 < share < 0.85 for share in shares[1:-1])


@st.composite
def small_tables(draw: st.DrawFn) -> ExitTable:
    """Few images, many of the same confidence, costs of their own that rise from exit to exit."""
    exits, images = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    shape = (exits + 1, images)
    seeded = np.random.default_rng(draw(st.integers(0, 2**32)))
    confidence = seeded.choice([0.0, 0.1, 0.5, 0.7, 0.70001, 1.0], shape)[:-1]
    macs = seeded.integers(0, 9, shape).cumsum(0).astype(float)
    return ExitTable(confidence, seeded.random(shape) < 0.6, macs, seeded.random(images) < 0.6)


def every_vector(table: ExitTable) -> np.ndarray:
    """Vectors of thresholds of which one sends the same images away as any that there is."""
    return np.array(list(product(*([-1.0, *np.unique(row)] for row in table.confidence))))


@given(small_tables(), st.sampled_from(["deepest", "ensemble"]))
def test_a_grid_holds_what_each_of_its_vectors_gives(table: ExitTable, fallback: str) -> None:
    levels = [[-1.0, 0.1, 0.3, 0.7, 1.0]] * table.exits
    right, macs = totals(table, levels, fallback)
    accuracy, mean = scores(table, np.array(list(product(*levels))), fallback)
    images = table.confidence.shape[1]
    np.testing.assert_allclose(right.ravel() / images, accuracy, rtol=1e-12)
    np.testing.assert_allclose(macs.ravel() / images, mean, rtol=1e-12)


@given(small_tables(), st.sampled_from(["deepest", "ensemble"]))
def test_without_a_limit_the_grid_has_the_front_of_all_thresholds(
    table: ExitTable, fallback: str
) -> None:
    levels, slack = levels_within(table, most=10**6, fallback=fallback)
    accuracy, macs = scores(table, every_vector(table), fallback)
    kept = moocore.filter_dominated(np.stack([macs, accuracy], 1), maximise=[False, True])
    found = [(m, a) for _, a, m in grid_front(table, levels, fallback)]
    assert slack == 0
    np.testing.assert_allclose(found, kept[np.argsort(kept[:, 0])], rtol=1e-12)


@given(small_tables(), st.integers(1, 30), st.floats(0, 0.5))
def test_no_vector_of_thresholds_is_better_by_more_than_the_slack(
    table: ExitTable, most: int, epsilon: float
) -> None:
    levels, slack = levels_within(table, epsilon, most=most)
    assert np.prod([len(own) for own in levels]) <= most
    assert levels_within(table, epsilon, most=10**6)[1] <= epsilon
    front = np.array([(a, m) for _, a, m in grid_front(table, levels)])
    for accuracy, macs in zip(*scores(table, every_vector(table)), strict=True):
        within = front[front[:, 1] <= macs * (1 + 1e-12)]
        assert within[:, 0].max() >= accuracy - slack - 1e-12
