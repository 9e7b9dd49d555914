"""Published searches of exit thresholds: against brute force, and never better than the whole grid."""

from __future__ import annotations

from itertools import product
from typing import Any

import moocore
import numpy as np
import pytest

from benchmarks.threshold_searches import SCAN_LEVELS, budget_curve, coordinate
from search.measure.exit_grid import ExitTable
from search.measure.exit_thresholds import (
    exhaustive_front,
    exit_outcomes,
    front_of,
    quantile_levels,
    setting,
)
from search.measure.genetic_thresholds import Genetic, decoded, genetic, scores
from tests.exit_tables import drawn


def test_many_vectors_at_once_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.measure.genetic_thresholds.CHUNK", 1000)  # several chunks
    table = drawn(2)
    vectors = np.array(list(product((0.6, 0.75, 0.9, 1.0), repeat=2)))
    accuracy, macs = scores(table, vectors, "ensemble")
    for v, a, m in zip(vectors, accuracy, macs, strict=True):
        one = setting(table, v, "ensemble")
        assert (a, m) == pytest.approx((one.accuracy, one.macs), abs=0, rel=1e-12)


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
    assert (
        genetic(drawn(3), 0.9, 4e6, Genetic(seed=1))[0]
        != genetic(drawn(3), 0.9, 4e6, Genetic(seed=1, beta=0.01))[0]
    )


def test_the_genetic_search_never_beats_the_exhaustive_front() -> None:
    table = drawn(2, images=100)
    _, seen = genetic(table, 0.9, 4e6, Genetic(generations=10))
    front = exhaustive_front(table, [SCAN_LEVELS] * 2, "ensemble")
    together = front_of([*front, *seen])
    assert {(s.accuracy, s.macs) for s in together} == {(s.accuracy, s.macs) for s in front}


def test_coordinate_ascent_ends_where_no_single_threshold_helps() -> None:
    table = drawn(2)
    levels = quantile_levels(table, 12)
    price = 0.3
    found = coordinate(table, levels, price=price)
    whole = table.macs[-1].mean()

    def gain(thresholds: tuple[float, ...]) -> float:
        one = setting(table, thresholds)
        return one.accuracy - price * one.macs / whole

    for k, own in enumerate(levels):
        for level in own:
            other = list(found.thresholds)
            other[k] = level
            assert gain(tuple(other)) <= gain(found.thresholds) + 1e-12


def test_the_budget_curve_sends_the_shares_that_it_asks_for() -> None:
    table = drawn(2, images=3000)
    for q, found in zip((0.25, 1.0, 1.9), budget_curve(table, (0.25, 1.0, 1.9)), strict=True):
        _, _, index = exit_outcomes(table, found.thresholds)
        wanted = q ** np.arange(1, 4) / (q ** np.arange(1, 4)).sum()
        assert np.bincount(index, minlength=3) / 3000 == pytest.approx(wanted, abs=2e-3)


@pytest.mark.slow
def test_the_front_of_all_vectors_of_scan_is_brute_force_s() -> None:
    table = drawn(4, images=60)
    vectors = np.array(list(product(SCAN_LEVELS, repeat=4)))
    assert len(vectors) == 923_521
    accuracy, macs = scores(table, vectors)
    kept = moocore.filter_dominated(np.stack([macs, accuracy], 1), maximise=[False, True])
    assert [(s.macs, s.accuracy) for s in exhaustive_front(table, [SCAN_LEVELS] * 4)] == sorted(
        map(tuple, kept)
    )


@pytest.mark.slow
@pytest.mark.parametrize("exits", [3, 4])
def test_a_grid_has_more_hypervolume_than_the_genetic_search_of_as_many_evaluations(
    exits: int,
) -> None:
    how = Genetic()
    count = int((how.population * how.generations) ** (1 / exits) + 1e-9)
    levels = [[SCAN_LEVELS[i] for i in np.linspace(0, 30, count).round().astype(int)]] * exits
    for seed in range(5):
        table = drawn(exits, images=2000, seed=seed)
        plain = float(table.correct[-1].mean()), float(table.macs[-1].mean())
        best = {
            beta: genetic(table, *plain, Genetic(seed=seed, beta=beta))[1]
            for beta in (0.1, 1.0, 10.0)
        }
        ours = hypervolume(table, exhaustive_front(table, levels, "ensemble"))
        assert all(ours > hypervolume(table, seen) for seen in best.values())


def hypervolume(table: ExitTable, settings: list[Any]) -> float:
    values = np.array([[s.macs, -s.accuracy] for s in settings])
    return float(moocore.hypervolume(values, ref=[table.macs[-1].mean(), 0.0]))
