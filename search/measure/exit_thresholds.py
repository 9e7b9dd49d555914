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
    """(right or wrong, MACs, who answers) of every image: an early exit, K the deepest head, K + 1 the ensemble.

    With K + 1 thresholds the last one is the deepest head's.
    """
    whole = table.with_deepest() if len(thresholds) > table.exits else table
    index = np.full(whole.confidence.shape[1], whole.exits)
    for k in reversed(range(whole.exits)):
        index = np.where(whole.confidence[k] > thresholds[k], k, index)
    images = np.arange(len(index))
    correct, macs = whole.answers(fallback)[index, images], whole.macs[index, images]
    if fallback == "ensemble":
        index = np.where(index == whole.exits, table.exits + 1, index)
    return correct, macs, index


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


def inner_levels(confidence_N: Floats, count: int) -> list[float]:
    """At most `count` ascending thresholds at quantiles of a confidence, at which some images leave and some do not.

    One at which none leaves where all images are equally sure.
    """
    values = np.unique(confidence_N)
    if len(values) < 2:
        return [1.0]
    between = (values[1:] + values[:-1]) / 2
    places = np.arange(1, count + 1) * len(between) // (count + 1)
    return [float(level) for level in np.unique(between[places])]


def quantile_levels(table: ExitTable, count: int) -> list[list[float]]:
    """For each exit at most `count` ascending thresholds: all images leave, none leaves, and `inner_levels` between."""
    return [sorted({-1.0, *inner_levels(row, count - 2), 1.0}) for row in table.confidence]


def thin_out(settings: Sequence[Setting], count: int) -> list[Setting]:
    """At most `count` of a front's settings, its ends among them, evenly spread over cost."""
    if len(settings) <= count:
        return list(settings)
    costs = np.array([s.macs for s in settings])
    wanted = np.linspace(costs[0], costs[-1], count)
    return [settings[i] for i in sorted({int(np.abs(costs - w).argmin()) for w in wanted})]
