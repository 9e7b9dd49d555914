"""Thresholds of exits on tables: the same as looking at every image, and searches against brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.threshold_grid import ExitTable, grid_front, levels_within, totals
from search.thresholds import (
    SCAN_LEVELS,
    Genetic,
    budget_curve,
    coordinate,
    decoded,
    exhaustive,
    front_of,
    genetic,
    leaving,
    quantile_levels,
    scores,
    setting,
    thinned,
)


def drawn(exits: int = 2, images: int = 200, seed: int = 0) -> ExitTable:
    """Exits of which later ones are more often right and sure answers more often right than unsure ones."""
    draw = np.random.default_rng(seed)
    ease = draw.random(images)
    confidence = np.clip(ease[None] + draw.normal(0, 0.15, (exits, images)), 0.01, 0.999) * 0.5 + 0.5
    skill = np.linspace(0.5, 0.9, exits + 1)[:, None]
    correct = draw.random((exits + 1, images)) < np.clip(skill * (0.4 + ease), 0, 1)
    macs = np.broadcast_to(np.linspace(1e6, 4e6, exits + 1)[:, None], (exits + 1, images)).copy()
    return ExitTable(confidence, correct, macs, draw.random(images) < 0.9)


@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
def test_an_image_leaves_at_the_first_exit_that_is_sure(fallback: str) -> None:
    table, thresholds = drawn(3), (0.8, 0.7, 0.9)
    correct, macs, index = leaving(table, thresholds, fallback)
    for i in range(len(index)):
        sure = [k for k in range(3) if table.confidence[k, i] > thresholds[k]]
        k = sure[0] if sure else 3
        last = table.ensemble[i] if fallback == "ensemble" else table.correct[3, i]
        assert (index[i], macs[i]) == (k, table.macs[k, i])
        assert correct[i] == (table.correct[k, i] if sure else last)


def test_threshold_1_uses_the_fallback_and_one_below_0_the_first_exit() -> None:
    table = drawn()
    assert set(leaving(table, (1.0, 1.0))[2]) == {2}
    assert set(leaving(table, (-0.1, 1.0))[2]) == {0}
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


def test_many_vectors_at_once_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.thresholds.CHUNK", 1000)  # several chunks
    table = drawn(2)
    vectors = np.array(list(product((0.6, 0.75, 0.9, 1.0), repeat=2)))
    accuracy, macs = scores(table, vectors, "ensemble")
    for v, a, m in zip(vectors, accuracy, macs, strict=True):
        one = setting(table, v, "ensemble")
        assert (a, m) == pytest.approx((one.accuracy, one.macs), abs=0, rel=1e-12)


def test_the_exhaustive_front_is_what_brute_force_leaves_standing() -> None:
    table, levels = drawn(2, images=80), [(0.6, 0.7, 0.8, 1.0), (0.65, 0.85, 1.0)]
    everything = [setting(table, v) for v in product(*levels)]
    best = [
        s
        for s in everything
        if not any(
            (o.accuracy >= s.accuracy and o.macs < s.macs) or (o.accuracy > s.accuracy and o.macs <= s.macs)
            for o in everything
        )
    ]
    found = exhaustive(table, levels)
    assert {(s.accuracy, s.macs) for s in found} == {(s.accuracy, s.macs) for s in best}
    assert [s.macs for s in found] == sorted(s.macs for s in found)


def test_genomes_decode_by_their_popcount() -> None:
    genome = np.zeros((3, 30), dtype=bool)
    genome[1] = True
    genome[2, :7] = True
    assert decoded(genome) == pytest.approx([1.0, 0.7, 0.93])


def test_the_genetic_search_is_seeded_and_reaches_the_exhaustive_best_on_a_small_problem() -> None:
    table = drawn(1, images=150)
    plain_accuracy, plain_macs = float(table.correct[-1].mean()), float(table.macs[-1].mean())
    how = Genetic(seed=3, generations=30)

    def fitness(one: object) -> float:
        return plain_macs / one.macs + 100 * (one.accuracy - plain_accuracy)  # type: ignore[attr-defined]

    best, seen = genetic(table, plain_accuracy, plain_macs, how)
    again, _ = genetic(table, plain_accuracy, plain_macs, how)
    every = [setting(table, (level,), "ensemble") for level in SCAN_LEVELS]
    assert best == again
    assert fitness(best) == pytest.approx(max(map(fitness, every)))
    assert max(map(fitness, seen)) == fitness(best)
    assert genetic(drawn(3), 0.9, 4e6, Genetic(seed=1))[0] != genetic(drawn(3), 0.9, 4e6, Genetic(seed=1, beta=0.01))[0]


def test_the_genetic_search_never_beats_the_exhaustive_front() -> None:
    table = drawn(2, images=100)
    _, seen = genetic(table, 0.9, 4e6, Genetic(generations=10))
    front = exhaustive(table, fallback="ensemble")
    together = front_of([*front, *seen])
    assert {(s.accuracy, s.macs) for s in together} == {(s.accuracy, s.macs) for s in front}


def test_coordinate_ascent_ends_where_no_single_threshold_helps() -> None:
    table = drawn(2)
    levels = quantile_levels(table, 12)
    price = 0.3
    found = coordinate(table, levels, price=price)
    dearest = table.macs[-1].mean()

    def gain(thresholds: tuple[float, ...]) -> float:
        one = setting(table, thresholds)
        return one.accuracy - price * one.macs / dearest

    for k, own in enumerate(levels):
        for level in own:
            other = list(found.thresholds)
            other[k] = level
            assert gain(tuple(other)) <= gain(found.thresholds) + 1e-12


def test_the_budget_curve_sends_the_shares_that_it_asks_for() -> None:
    table = drawn(2, images=3000)
    for q, found in zip((0.25, 1.0, 1.9), budget_curve(table, (0.25, 1.0, 1.9)), strict=True):
        _, _, index = leaving(table, found.thresholds)
        wanted = q ** np.arange(1, 4) / (q ** np.arange(1, 4)).sum()
        assert np.bincount(index, minlength=3) / 3000 == pytest.approx(wanted, abs=2e-3)


def test_thinning_keeps_the_ends_and_no_more_than_asked() -> None:
    front = exhaustive(drawn(2))
    few = thinned(front, 5)
    assert len(few) <= 5
    assert (few[0], few[-1]) == (front[0], front[-1])
    assert thinned(front[:3], 5) == front[:3]


def test_levels_lie_between_confidences_and_reach_from_nobody_to_everybody() -> None:
    table = drawn(2)
    for row, levels in zip(table.confidence, quantile_levels(table, 10), strict=True):
        assert (row > levels[0]).all()
        assert not (row > levels[-1]).any()
        assert not set(levels) & set(row)


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
def test_without_a_limit_the_grid_has_the_front_of_all_thresholds(table: ExitTable, fallback: str) -> None:
    levels, slack = levels_within(table, most=10**6, fallback=fallback)
    accuracy, macs = scores(table, every_vector(table), fallback)
    kept = moocore.filter_dominated(np.stack([macs, accuracy], 1), maximise=[False, True])
    found = [(m, a) for _, a, m in grid_front(table, levels, fallback)]
    assert slack == 0
    np.testing.assert_allclose(found, kept[np.argsort(kept[:, 0])], rtol=1e-12)


@given(small_tables(), st.integers(1, 30), st.floats(0, 0.5))
def test_no_vector_of_thresholds_is_better_by_more_than_the_slack(table: ExitTable, most: int, epsilon: float) -> None:
    levels, slack = levels_within(table, epsilon, most=most)
    assert np.prod([len(own) for own in levels]) <= most
    assert levels_within(table, epsilon, most=10**6)[1] <= epsilon
    front = np.array([(a, m) for _, a, m in grid_front(table, levels)])
    for accuracy, macs in zip(*scores(table, every_vector(table)), strict=True):
        within = front[front[:, 1] <= macs * (1 + 1e-12)]
        assert within[:, 0].max() >= accuracy - slack - 1e-12


@pytest.mark.slow
def test_the_front_of_all_vectors_of_scan_is_brute_force_s() -> None:
    table = drawn(4, images=60)
    vectors = np.array(list(product(SCAN_LEVELS, repeat=4)))
    assert len(vectors) == 923_521
    accuracy, macs = scores(table, vectors)
    kept = moocore.filter_dominated(np.stack([macs, accuracy], 1), maximise=[False, True])
    assert [(s.macs, s.accuracy) for s in exhaustive(table)] == sorted(map(tuple, kept))


@pytest.mark.slow
@pytest.mark.parametrize("exits", [3, 4])
def test_a_grid_has_more_hypervolume_than_the_genetic_search_of_as_many_evaluations(exits: int) -> None:
    how = Genetic()
    count = int((how.population * how.generations) ** (1 / exits) + 1e-9)
    levels = [[SCAN_LEVELS[i] for i in np.linspace(0, 30, count).round().astype(int)]] * exits
    for seed in range(5):
        table = drawn(exits, images=2000, seed=seed)
        plain = float(table.correct[-1].mean()), float(table.macs[-1].mean())
        best = {beta: genetic(table, *plain, Genetic(seed=seed, beta=beta))[1] for beta in (0.1, 1.0, 10.0)}
        ours = hypervolume(table, exhaustive(table, levels, "ensemble"))
        assert all(ours > hypervolume(table, seen) for seen in best.values())


def hypervolume(table: ExitTable, settings: list[Any]) -> float:
    values = np.array([[s.macs, -s.accuracy] for s in settings])
    return float(moocore.hypervolume(values, ref=[table.macs[-1].mean(), 0.0]))
