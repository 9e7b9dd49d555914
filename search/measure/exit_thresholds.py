"""Thresholds for early exits, searched on tables of confidences, answers and costs; no network is run.

Shapes: N images, K early exits (row K of a table is the deepest head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from search.measure.exit_grid import Bools, ExitTable, Floats, grid_front


@dataclass(frozen=True)
class Setting:
    """One vector of thresholds, on the confidences of a rule, and what it gives: accuracy and mean MACs."""

    thresholds: tuple[float, ...]
    fallback: str
    accuracy: float
    macs: float
    rule: str = "maxprob"


def exit_outcomes(
    table: ExitTable, thresholds: Sequence[float], fallback: str = "deepest"
) -> tuple[Bools, Floats, NDArray[np.int64]]:
    """(right or wrong, MACs, exit) of every image under the thresholds; exit K is the deepest head or the fallback."""
    index = np.full(table.confidence.shape[1], table.exits)
    for k in reversed(range(table.exits)):
        index = np.where(table.confidence[k] > thresholds[k], k, index)
    images = np.arange(len(index))
    correct = table.answers(fallback)[index, images]
    return correct, table.macs[index, images], index


def setting(table: ExitTable, thresholds: Sequence[float], fallback: str = "deepest") -> Setting:
    """Accuracy and mean MACs of one vector of thresholds."""
    correct, macs, _ = exit_outcomes(table, thresholds, fallback)
    return Setting(
        tuple(map(float, thresholds)), fallback, float(correct.mean()), float(macs.mean())
    )


def front_of(settings: Sequence[Setting]) -> list[Setting]:
    """The settings that no other beats in accuracy and MACs, cheapest first."""
    if not settings:
        return []
    values = np.array([[s.macs, s.accuracy] for s in settings])
    kept = moocore.is_nondominated(values, maximise=[False, True])
    return sorted((s for s, keep in zip(settings, kept, strict=True) if keep), key=lambda s: s.macs)


def exhaustive_front(
    table: ExitTable, levels: Sequence[Sequence[float]], fallback: str = "deepest"
) -> list[Setting]:
    """The front over all combinations of levels, exactly."""
    found = grid_front(table, [sorted(own) for own in levels], fallback)
    return [Setting(thresholds, fallback, accuracy, macs) for thresholds, accuracy, macs in found]


def quantile_levels(table: ExitTable, count: int) -> list[list[float]]:
    """For each exit thresholds at quantiles of its confidence, from where no image leaves to where all do."""
    found = []
    for row in table.confidence:
        values = np.unique(row)
        between = (
            values[1:] + values[:-1]
        ) / 2  # half-way, so that a rounding error sends no image elsewhere
        picked = (
            between[np.linspace(0, len(between) - 1, min(count - 2, len(between))).astype(int)]
            if len(between)
            else []
        )
        found.append(sorted({*map(float, picked), 1.0, -1.0}))
    return found


def thin_out(settings: Sequence[Setting], count: int) -> list[Setting]:
    """At most `count` of a front's settings, its ends among them, evenly spread over cost."""
    if len(settings) <= count:
        return list(settings)
    costs = np.array([s.macs for s in settings])
    wanted = np.linspace(costs[0], costs[-1], count)
    return [settings[i] for i in sorted({int(np.abs(costs - w).argmin()) for w in wanted})]
