"""Thresholds of exits, searched on tables by rule, and how much choosing them flatters.

Shapes: N images, K early exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from search.measure.exit_grid import ExitTable, Ints, levels_within
from search.measure.exit_thresholds import (
    Setting,
    exhaustive_front,
    front_of,
    inner_levels,
    quantile_levels,
    setting,
)
from search.measure.genetic_thresholds import genetic_front
from spaces.contract.exit_rules import FALLBACKS

GENETIC_RULE = "maxprob"
Search = Callable[[Mapping[str, ExitTable]], list[Setting]]
FEWEST = 20  # images that a coarse grid has levels for, however few there are


def search_thresholds(tables: Mapping[str, ExitTable], *, fine: bool) -> list[Setting]:
    """The front over the rules, fallbacks and thresholds of a grid; `tables` by rule.

    Under the ensemble the deepest head may have a threshold of its own: K + 1 of them.

    A fine grid has up to 2^18 vectors and a proven slack (see `levels_within`), a coarse one no more vectors than
    images, for a fine one flatters where images are few: with 4 exits and images drawn at random (12 draws) its
    accuracy was 2.2 points above that on fresh images for 300 images and a coarse one's 0.8, while on 5,000 (6 draws)
    neither was 0.1 points above and the fine one was better on fresh images too.
    """
    found = []
    for rule, table in tables.items():
        own = [one for fallback in FALLBACKS for one in _grid(table, fallback, fine=fine)]
        if table.deepest is not None:
            own += map(_shortened, _grid_with_deepest(table.with_deepest(), fine=fine))
        found += [replace(one, rule=rule) for one in own]
    return front_of(found)


def genetic_thresholds(tables: Mapping[str, ExitTable]) -> list[Setting]:
    """The front that SCAN's genetic search finds on the table of maximum probabilities, the only rule that it has."""
    return front_of([_shortened(one) for one in genetic_front(tables[GENETIC_RULE])])


def _grid(table: ExitTable, fallback: str, *, fine: bool) -> list[Setting]:
    """The front over the fine or the coarse grid of the table's exits."""
    if not fine:
        return exhaustive_front(table, quantile_levels(table, _coarse(table)), fallback)
    return exhaustive_front(table, levels_within(table, fallback=fallback)[0], fallback)


def _coarse(table: ExitTable) -> int:
    """Levels of each exit of a grid with no more vectors than images."""
    images = table.confidence.shape[1]
    return max(3, int(max(FEWEST, images) ** (1 / table.exits)))


def _grid_with_deepest(table: ExitTable, *, fine: bool) -> list[Setting]:
    """The front over a grid in which the table's last exit is the deepest head.

    A coarse one has no level at which all images leave somewhere: other grids have those vectors.
    """
    if fine:
        return _grid(table, "ensemble", fine=True)
    count = _coarse(table)
    *early, deepest = table.confidence
    levels = [[*inner_levels(row, count - 1), 1.0] for row in early]
    return exhaustive_front(table, [*levels, inner_levels(deepest, count)], "ensemble")


def _shortened(one: Setting) -> Setting:
    """The same without a threshold of the deepest head that none or all images are above."""
    *early, last = one.thresholds
    if 0 <= last < 1:
        return one
    fallback = "deepest" if last < 0 else one.fallback
    return replace(one, thresholds=tuple(early), fallback=fallback)


def selection_biases(
    tables: Mapping[str, ExitTable], kept: Sequence[Setting], search: Search
) -> list[float]:
    """For each setting how much choosing at its cost flatters: chosen on one half of the images, measured on the other.

    On each half the front is searched as on all images, by `search`. Of the setting there that costs about what the
    kept one does: accuracy on the half that it was chosen on minus accuracy on the other half, mean over the two
    halves, in which how easy either half is cancels. Positive is flattery. It is an estimate with the noise of two
    halves, and on the high side for a setting chosen on twice as many images. Temperatures and judges are those of all
    images. Nothing is subtracted from what a point reports.
    """
    images = next(iter(tables.values())).confidence.shape[1]
    order = np.random.default_rng(0).permutation(images)
    halves = order[: images // 2], order[images // 2 :]
    biases = np.zeros(len(kept))
    for own, other in (halves, halves[::-1]):
        front, unseen = search(_some(tables, own)), _some(tables, other)
        costs = np.array([one.macs for one in front])
        for i, one in enumerate(kept):
            chosen = front[int(np.abs(costs - one.macs).argmin())]
            there = setting(unseen[chosen.rule], chosen.thresholds, chosen.fallback)
            biases[i] += (chosen.accuracy - there.accuracy) / 2
    return [float(bias) for bias in biases]


def _some(tables: Mapping[str, ExitTable], images: Ints) -> dict[str, ExitTable]:
    return {rule: table.of(images) for rule, table in tables.items()}
