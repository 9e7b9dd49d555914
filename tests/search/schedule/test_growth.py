"""What a candidate is worth, and how parameters become numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.schedule.growth import (
    Draw,
    Encoder,
    area,
    at_budgets,
    budgets,
    expected_improvement,
    levels,
    predict_losses,
    shares,
    weights,
)
from spaces.contract.space import Dimension

SPACE = (
    Dimension(name="depth", kind="choice", default=8, choices=(8, 14, 20)),
    Dimension(name="loss", kind="choice", default="none", choices=("none", "sum")),
    Dimension(name="gated", kind="choice", default=True, choices=(False, True)),
    Dimension(name="target", kind="float", default=0.5, low=0.2, high=0.7),
    Dimension(name="lr", kind="float", default=0.1, low=0.01, high=1.0, log=True),
    Dimension(name="groups", kind="int", default=2, low=1, high=5),
)
ONE = (Dimension(name="target", kind="float", default=0.5, low=0.5, high=0.5),)


@pytest.mark.parametrize(("costs", "count"), [(0, 1), (1, 12), (2, 36)])
def test_budgets_span_the_box_and_their_weights_add_up_to_one(costs: int, count: int) -> None:
    grid = budgets(costs)
    assert grid.shape == (count, costs)
    assert np.all((grid > 0) & (grid <= 1))
    assert weights(grid).sum() == pytest.approx(1)
    if costs:
        assert grid.max(0).tolist() == [1.0] * costs


def trainings(costs: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, losses) of trainings that are the better the larger their one number is, at every share."""
    quality = np.linspace(0, 1, 24)
    return quality[:, None], np.repeat(0.8 - 0.7 * quality[:, None], len(shares(costs)), 1)


def improvement_of(
    known: tuple[np.ndarray, np.ndarray], qualities: list[float], costs: int = 1, worst: float = 1.0
) -> Any:
    """Of candidates as expensive as the box."""
    rows, losses = known
    new, grid = np.array(qualities)[:, None], budgets(costs)
    front = np.full(len(grid), losses.min())
    return expected_improvement(
        *predict_losses(rows, losses, new, seed=0), np.ones((len(new), costs)), grid, front, worst
    )


@pytest.mark.parametrize("costs", [0, 1, 2])
def test_a_candidate_like_a_good_training_is_worth_more_than_one_like_a_bad_one(costs: int) -> None:
    found = improvement_of(trainings(costs), [0.05, 0.5, 0.95], costs)
    assert found.shape == (3,)
    assert (found >= 0).all()
    assert found[2] > 10 * max(found[0], found[1], 1e-9)


def test_only_losses_below_the_worst_count() -> None:
    rows, losses = trainings(1)
    worse = rows, losses + 0.15  # the best has 0.25
    assert improvement_of(worse, [0.95], worst=0.3) == improvement_of(worse, [0.95])
    assert improvement_of(worse, [0.95], worst=0.05)[0] < 1e-6 < improvement_of(worse, [0.95])[0]


def test_the_same_seed_gives_the_same_worth() -> None:
    rows, losses = trainings(1)
    first, again = (predict_losses(rows, losses, rows, seed=5) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_budget_is_looked_up_at_the_share_that_it_is_of_the_size() -> None:
    (axis,) = levels(1)
    at = at_budgets(np.array([[0.1], [0.2], [1e-4]]), np.array([[1.0], [0.1]]))
    assert [axis[i] for i in at[0, :2]] == pytest.approx([0.1, 0.2], rel=0.25), (
        "of a network as expensive as the box"
    )
    assert axis[at[0, 0]] <= 0.1
    assert at[1, 1] == len(axis) - 1, "more than all that it costs"
    assert at[:, 2].tolist() == [-1, -1], "less than the least share"
    both = at_budgets(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1e3]]))
    assert shares(2)[both[0, 0]].tolist() == [max(one[one <= 1]) for one in levels(2)]
    assert both[1, 0] == -1, "one of two costs is beyond it"


def test_the_area_of_a_front_counts_what_is_below_the_worst_alone() -> None:
    grid = budgets(1)
    assert area(np.full(len(grid), 3.0), grid) == 0, "beyond a budget by however much"
    assert area(np.full(len(grid), 0.25), grid) == pytest.approx(0.75)
    assert area(np.full(len(grid), 0.25), grid, 0.5) == pytest.approx(0.5)


def test_a_smaller_size_that_was_never_trained_is_worth_what_it_would_add_below_the_front() -> None:
    """Every training so far has the same shape of curve over the shares of its size."""
    rows, losses = np.zeros((8, 1)), np.repeat(np.linspace(0.9, 0.1, len(shares(1)))[None], 8, 0)
    curves = predict_losses(rows, losses, np.zeros((2, 1)), seed=0)
    grid = budgets(1)
    at = at_budgets(grid, np.array([[0.5]]))[0]
    front = np.where(at < 0, 1.0, losses[0, at])  # of the size 0.5
    same, smaller = expected_improvement(*curves, np.array([[0.5], [0.1]]), grid, front)
    assert smaller > 5 * same


def test_parameters_become_shares_of_their_range_and_one_column_a_word() -> None:
    encoder = Encoder({"b": SPACE, "a": ONE})
    values = {
        "family": "b",
        "b.depth": 14,
        "b.loss": "sum",
        "b.gated": False,
        "b.target": 0.3,
        "b.lr": 0.1,
    }
    (row, other) = encoder.rows([values | {"b.groups": 5}, {"family": "a", "a.target": 0.5}])
    assert row.tolist() == pytest.approx([0, 1, 0.5, 0, 1, 1, 0, 0.2, 0.5, 1, -1])
    assert other.tolist() == pytest.approx([1, 0, *[-1] * 8, 0])


def test_dimensions_that_do_not_matter_and_names_that_are_unknown_leave_minus_one() -> None:
    assert Encoder({"b": SPACE}).rows([{"b.depth": 20, "b.gone": 3}]).tolist() == [
        [0, 1, *[-1] * 7]
    ]
    assert Encoder({"b": SPACE}).rows([]).shape == (0, 9)


@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0]))
def test_a_draw_keeps_the_values_it_is_given_or_draws_within_the_dimension(
    seed: int, keep: float
) -> None:
    kept = {"depth": 14, "lr": 0.3, "groups": 3, "target": 0.55}
    draw = Draw(np.random.default_rng(seed), kept, keep)
    for dimension in SPACE:
        value = dimension.suggest(draw, dimension.name)
        assert dimension.contains(value)
        assert type(value) is type(dimension.default)
    assert list(draw.params) == [dimension.name for dimension in SPACE]
    if keep:
        assert kept.items() <= draw.params.items()


def test_a_draw_keeps_about_the_share_of_values_that_it_is_told() -> None:
    draw = np.random.default_rng(0)
    found = [
        Draw(draw, {"lr": 0.3}, 0.75).suggest_float("lr", 0.01, 1.0, log=True) for _ in range(400)
    ]
    assert 0.7 < found.count(0.3) / 400 < 0.8
    assert 0.08 < np.median([value for value in found if value != 0.3]) < 0.13, (
        "drawn evenly in the logarithm"
    )


def test_a_dimension_that_came_later_has_a_column_only_where_it_is_searched() -> None:
    later = Dimension(
        name="ema", kind="float", default=0.0, low=0.0, high=1.0, searched=False, later=True
    )
    searched = dataclasses.replace(later, searched=True)
    widths = [
        Encoder({"net": (*SPACE, *more)}).rows([{"net.depth": 8}]).shape[1]
        for more in ((), (later,), (searched,))
    ]
    assert widths[1:] == [widths[0], widths[0] + 1]
