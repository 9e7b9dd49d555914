"""Which cascades of those that were searched are kept: those that the front grows by, flattery subtracted.

Shapes: F points of a front that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from search.front.curves import Curve, volume
from search.measure.cascade_search import search_cascades
from search.measure.cascade_tables import Cascade, Floats, MemberTable, measured

KEPT = 16  # cascades of a study
WORTH = 0.001  # of the hypervolume: what a cascade must add to be kept


@dataclass(frozen=True)
class Bounds:
    """What no cascade may exceed: MACs that an image may take at most, and parameters."""

    macs: float = np.inf
    parameters: float = np.inf


@dataclass(frozen=True)
class Region:
    """The part of the front that counts: an accuracy of at least `floor`, mean MACs of at most `ceiling`."""

    floor: float
    ceiling: float

    def curve(self, accuracy: Floats, macs: Floats) -> Curve:
        """(points, 2) losses: 0 is perfect, 1 as bad as the region's worst corner."""
        return np.column_stack([(1 - accuracy) / (1 - self.floor), macs / self.ceiling])


@dataclass(frozen=True)
class Kept:
    """The cascades that are kept, cheapest first, and by how much choosing them flatters their accuracy."""

    cascades: list[Cascade]
    selection_bias: float


def kept_cascades(
    table: MemberTable,
    accuracy_F: Floats,
    macs_F: Floats,
    region: Region,
    bounds: Bounds,
    most: int = KEPT,
) -> Kept:
    """The cascades by which the hypervolume of a known front grows most, even with the flattery subtracted.

    Accuracy is top-1, MACs are means.
    """
    found = search_cascades(table, macs=bounds.macs, parameters=bounds.parameters)
    if not found:
        return Kept([], 0.0)
    bias = flattery(table, found, bounds)
    accuracy = np.array([one.accuracy for one in found]) - max(0.0, bias)
    macs = np.array([one.macs for one in found])
    chosen = grown(region.curve(accuracy_F, macs_F), region.curve(accuracy, macs), most)
    kept = [found[i] for i in chosen]
    return Kept(sorted(kept, key=lambda one: one.macs), bias)


def grown(known: Curve, candidates: Curve, most: int) -> list[int]:
    """Candidates that the hypervolume grows by, one after another the one that it grows most by; at most so many."""
    chosen: list[int] = []
    left = [int(i) for i in np.flatnonzero((candidates < 1).all(1))]
    size = volume(known)
    while left and len(chosen) < most:
        sizes = [volume(np.vstack([known, candidates[i]])) for i in left]
        best = int(np.argmax(sizes))
        if sizes[best] <= size * (1 + WORTH):
            break
        known, size = np.vstack([known, candidates[left[best]]]), sizes[best]
        chosen.append(left.pop(best))
    return chosen


def flattery(table: MemberTable, found: Sequence[Cascade], bounds: Bounds) -> float:
    """How much choosing flatters: chosen on one half of the images, measured on the other, mean over all cascades.

    On each half cascades are searched as on all images. Of those there that cost about what each of `found` does:
    accuracy on the half that they were chosen on minus accuracy on the other, mean over the two halves, in which how
    easy either half is cancels; over the square root of 2, for chance shrinks so with twice as many images. As for
    exits it is an estimate. The thresholds of exits within a member are those of all images.
    """
    images = len(table.labels)
    order = np.random.default_rng(0).permutation(images)
    halves = np.sort(order[: images // 2]), np.sort(order[images // 2 :])
    costs = np.array([one.macs for one in found])
    total = 0.0
    for own, other in (halves, halves[::-1]):
        half, unseen = table.of(own), table.of(other)
        front = search_cascades(half, macs=bounds.macs, parameters=bounds.parameters)
        if not front:
            return 0.0
        near = np.abs(np.array([one.macs for one in front])[:, None] - costs).argmin(0)
        drops = {i: _drop(half, unseen, front[i]) for i in {int(i) for i in near}}
        total += float(np.mean([drops[int(i)] for i in near])) / 2
    return total / sqrt(2)


def _drop(table: MemberTable, unseen: MemberTable, chosen: Cascade) -> float:
    seen = measured(table, chosen.members, chosen.rule)
    return seen.accuracy - measured(unseen, chosen.members, chosen.rule).accuracy
