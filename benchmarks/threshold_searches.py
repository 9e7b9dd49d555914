"""Published searches of exit thresholds, to compare ours with, on tables of confidences, answers and costs.

SCAN's genetic search is in `search.measure.genetic_thresholds`, where studies can have it.
Budget curve: Huang, Chen, Li, Wu, van der Maaten and Weinberger, "Multi-Scale Dense Networks for Resource Efficient
Image Classification", ICLR, 2018.

Shapes: N images, K early exits (row K of a table is the deepest head), V threshold vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.measure.exit_grid import ExitTable
from search.measure.exit_thresholds import Setting, setting
from search.measure.genetic_thresholds import scores

SCAN_LEVELS = tuple(round(1.0 - 0.01 * i, 2) for i in range(31))  # 1.00, 0.99 ... 0.70


def coordinate(
    table: ExitTable,
    levels: Sequence[Sequence[float]],
    *,
    price: float,
    fallback: str = "deepest",
    rounds: int = 10,
) -> Setting:
    """Coordinate ascent on accuracy minus price times (MACs over the deepest exit's): one threshold at a time."""
    whole = float(table.macs[-1].mean())
    current = [max(level) for level in levels]
    for _ in range(rounds):
        before = list(current)
        for k, own in enumerate(levels):
            vectors = np.array([[*current[:k], level, *current[k + 1 :]] for level in own])
            accuracy, macs = scores(table, vectors, fallback)
            current[k] = own[int(np.argmax(accuracy - price * macs / whole))]
        if current == before:
            break
    return setting(table, current, fallback)


def budget_curve(
    table: ExitTable, shares: Sequence[float], fallback: str = "deepest"
) -> list[Setting]:
    """For each q of `shares`, thresholds at which the share that leaves at exit k is in proportion to q^k."""
    images = table.confidence.shape[1]
    found = []
    for q in shares:
        weights = q ** np.arange(1, table.exits + 2)
        wanted = weights / weights.sum() * images
        left = np.ones(images, dtype=bool)
        thresholds = []
        for k in range(table.exits):
            here = np.sort(table.confidence[k][left])[::-1]
            count = min(round(wanted[k]), len(here))
            thresholds.append(float(here[count]) if count < len(here) else -1.0)
            left &= ~(table.confidence[k] > thresholds[-1])
        found.append(setting(table, thresholds, fallback))
    return found
