"""Which candidate would make the front grow most: a forest predicts whole curves, not one point of each training.

A training's curve is a function: the accuracy that its operating points reach within a budget of compute. A forest
learns it from the dimensions, at many budgets at once, each a share of what the baseline of that size costs, so that
one size says something of others. The expected improvement of a candidate is the area by which its curve is expected
to lie beyond the front of all trainings. Expected improvement on a forest follows Hutter, Hoos and
Leyton-Brown, "Sequential model-based optimization for general algorithm configuration", LION, 2011. Where Knowles,
"ParEGO", IEEE Transactions on Evolutionary Computation, 2006, draws one scalar of the objectives a step, here budgets
are added up.

Shapes: T trainings, B budgets, S shares, C candidates, F features, K costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import ExtraTreesRegressor

from search.front.curves import LEAST
from spaces.contract.space import Dimension, Value

Floats = NDArray[np.float64]
TREES = 25
BUDGETS, OTHERS = 12, 3  # levels of the first cost, and of each further one
CHEAPEST = 1e-3  # of the reference point: the smallest budget at which curves are compared
SHARES, LEAST_SHARE, MOST_SHARE = 24, 0.01, 1.25  # of a baseline's cost, that curves are learned at
NOISE = 0.15  # of the logarithm of a loss, at least: two seeds of one candidate differ by that
EVEN = 0.5  # of the weight of a budget: its share of the logarithm of cost; the rest, its share of cost
REMEMBERED = 250  # trainings that the forest learns from


def budgets(costs: int) -> Floats:
    """(B, costs) budgets that curves are compared at, as shares of the reference point."""
    return _grid([np.geomspace(CHEAPEST, 1.0, BUDGETS if i == 0 else OTHERS) for i in range(costs)])


def levels(costs: int) -> list[Floats]:
    """For each cost the shares of a baseline's that curves are learned at, ascending."""
    first, other = (
        np.geomspace(LEAST_SHARE, MOST_SHARE, SHARES),
        np.geomspace(0.1, MOST_SHARE, OTHERS),
    )
    return [first if i == 0 else other for i in range(costs)]


def shares(costs: int) -> Floats:
    """(S, K) all combinations of levels, in the order of what `at_budgets` returns."""
    return _grid(levels(costs))


def _grid(axes: Sequence[Floats]) -> Floats:
    found = list(product(*axes))
    return np.array(found).reshape(len(found), len(axes))


def at_budgets(grid: Floats, sizes_CK: Floats) -> NDArray[np.int64]:
    """(C, B) which of the shares each budget is for networks of these sizes; -1 where it is below the least."""
    axes = levels(grid.shape[1])
    found = np.zeros((len(sizes_CK), len(grid)), dtype=np.int64)
    below = np.zeros_like(found, dtype=bool)
    for i, axis in enumerate(axes):
        at = (
            np.searchsorted(
                axis, grid[None, :, i] / sizes_CK[:, i : i + 1] * (1 + 1e-9), side="right"
            )
            - 1
        )
        found, below = found * len(axis) + at, below | (at < 0)
    return np.where(below, -1, found)


def weights(grid: Floats) -> Floats:
    """(B,) the weight of each budget: a mean of its share of cost and of its share of the logarithm of cost."""
    found = np.ones(len(grid))
    for column in grid.T:
        levels = np.unique(column)
        linear = np.gradient(levels) if len(levels) > 1 else np.ones(1)
        share = (1 - EVEN) * linear / linear.sum() + EVEN / len(levels)
        found *= share[np.searchsorted(levels, column)]
    return found


class Draw:
    """Takes the place of an Optuna trial: draws each dimension, or keeps the value that it is given."""

    def __init__(
        self, draw: np.random.Generator, kept: Mapping[str, Value] | None = None, keep: float = 0.0
    ) -> None:
        self.draw, self.kept, self.keep = draw, kept or {}, keep
        self.params: dict[str, Value] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self._taken(name, choices[int(self.draw.integers(len(choices)))])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        drawn = (
            np.exp(self.draw.uniform(np.log(low), np.log(high)))
            if log
            else self.draw.uniform(low, high)
        )
        return float(self._taken(name, min(high, max(low, float(drawn)))))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._taken(name, int(self.draw.integers(low, high + 1))))

    def _taken(self, name: str, drawn: Value) -> Value:
        keep = name in self.kept and self.draw.random() < self.keep
        self.params[name] = self.kept[name] if keep else drawn
        return self.params[name]


@dataclass(frozen=True)
class Column:
    """Where a dimension's value is written: as one number, or one for each choice."""

    at: int
    dimension: Dimension
    ordered: bool

    @property
    def width(self) -> int:
        return 1 if self.ordered else len(self.dimension.choices)

    def write(self, row: Floats, value: Any) -> None:
        one = self.dimension
        if not self.ordered:
            row[self.at : self.at + self.width] = [float(value == choice) for choice in one.choices]
        elif one.kind == "choice":
            row[self.at] = one.choices.index(value) / max(1, len(one.choices) - 1)
        else:
            low, high = float(one.low), float(one.high)
            over, span = (
                (log(value / low), log(high / low)) if one.log else (value - low, high - low)
            )
            row[self.at] = over / span if span else 0.0


class Encoder:
    """Parameters, as Optuna names them, as rows of numbers; -1 where a dimension does not matter."""

    def __init__(self, spaces: Mapping[str, tuple[Dimension, ...]]) -> None:
        self.families = sorted(spaces)
        self._spaces = spaces

    @cached_property
    def _columns(self) -> dict[str, Column]:
        found, width = dict[str, Column](), len(self.families)
        for name, space in self._spaces.items():
            for dimension in space:
                if dimension.later and not dimension.searched:
                    continue  # the forests of stored studies have no column for it
                column = Column(width, dimension, is_ordered(dimension))
                found[f"{name}.{dimension.name}"] = column
                width += column.width
        return found

    def rows(self, params: Sequence[Mapping[str, Any]]) -> Floats:
        """(T, F)"""
        last = list(self._columns.values())[-1]
        found = np.full((len(params), last.at + last.width), -1.0)
        for row, values in zip(found, params, strict=True):
            row[: len(self.families)] = [
                float(one == values.get("family")) for one in self.families
            ]
            for name, value in values.items():
                if name in self._columns:
                    self._columns[name].write(row, value)
        return found


def is_ordered(dimension: Dimension) -> bool:
    """Whether the values are numbers, of which more or less means something."""
    return all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in dimension.choices
    )


def predict_losses(
    rows_TF: Floats, losses_TS: Floats, candidates_CF: Floats, seed: int
) -> tuple[Floats, Floats]:
    """(C, S) mean and standard deviation of the logarithm of each candidate's accuracy loss within each share."""
    forest = ExtraTreesRegressor(
        TREES, min_samples_leaf=2, max_features=0.7, bootstrap=True, random_state=seed
    )
    learned = np.log(np.maximum(losses_TS, LEAST))
    forest.fit(rows_TF, learned if learned.shape[1] > 1 else learned.ravel())
    rows = candidates_CF.astype(np.float32)
    each = np.stack(
        [tree.tree_.predict(rows).reshape(len(rows), -1) for tree in forest.estimators_]
    )
    return each.mean(0), np.hypot(each.std(0), NOISE)


def area(front_B: Floats, grid: Floats, worst: float = 1.0) -> float:
    """The share of all that could be gained below `worst` that a front has, each budget with its weight."""
    return float((1 - np.minimum(front_B / worst, 1)) @ weights(grid))


def expected_improvement(
    mean_CS: Floats,
    std_CS: Floats,
    sizes_CK: Floats,
    grid: Floats,
    front_B: Floats,
    worst: float = 1.0,
) -> Floats:
    """(C,) expected improvement: the area by which each candidate's curve is expected to lie beyond the front.

    `sizes_CK`: what the candidates' baselines cost; `grid`: the budgets, in the same unit; `front_B`: the least
    loss within each so far. Only what has a smaller loss than `worst` counts.
    """
    at = at_budgets(grid, sizes_CK)
    mean, std = (np.take_along_axis(one, np.maximum(at, 0), 1) for one in (mean_CS, std_CS))
    front = np.log(np.clip(front_B, LEAST, worst))
    z = (front - mean) / std  # losses are log-normal: what remains below the front, in closed form
    gain = np.exp(front) * norm.cdf(z) - np.exp(mean + std**2 / 2) * norm.cdf(z - std)
    return np.where(at < 0, 0.0, np.maximum(gain, 0.0)) @ weights(grid)
