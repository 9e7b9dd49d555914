"""Every vector of a grid of exit thresholds at once, from running sums over sorted confidences.

Which images are left behind exit k depends on the thresholds up to k alone, and each exit splits images by one number.
With images counted into cells by their level at every exit, sums over all images that are left are running sums along
each axis: the whole grid costs one step for each image and a few additions a vector, however many images there are.

Shapes: N images, K early exits, L_k levels at exit k; a grid has L_0 x ... x L_(K-1) vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST = 2**18  # vectors of a grid, where the caller does not say


@dataclass(frozen=True)
class ExitTable:
    """What each exit answers on each image.

    `confidence` (K, N), `correct` (K + 1, N), `macs` (K + 1, N) when it leaves there; `ensemble` (N,): whether the mean
    of all heads' logits is right. `deepest` (N,): how sure the deepest head is; None where it has no threshold.
    """

    confidence: Floats
    correct: Bools
    macs: Floats
    ensemble: Bools
    deepest: Floats | None = None

    @property
    def exits(self) -> int:
        return len(self.confidence)

    def answers(self, fallback: str) -> Bools:
        """(K + 1, N) whether images that leave there are answered rightly; the last row is the fallback's."""
        return (
            np.concatenate([self.correct[:-1], self.ensemble[None]])
            if fallback == "ensemble"
            else self.correct
        )

    def with_deepest(self) -> ExitTable:
        """The deepest head as one more exit, at which images leave that it is sure of; the ensemble costs no more."""
        assert self.deepest is not None
        return ExitTable(
            np.concatenate([self.confidence, self.deepest[None]]),
            np.concatenate([self.correct, self.ensemble[None]]),
            np.concatenate([self.macs, self.macs[-1:]]),
            self.ensemble,
        )

    def of(self, images: NDArray[np.int64]) -> ExitTable:
        """The table of some of the images."""
        return ExitTable(
            self.confidence[:, images],
            self.correct[:, images],
            self.macs[:, images],
            self.ensemble[images],
            None if self.deepest is None else self.deepest[images],
        )


def totals(
    table: ExitTable, levels: Sequence[Sequence[float]], fallback: str = "deepest"
) -> tuple[Floats, Floats]:
    """(right answers, MACs) summed over all images, for every vector of the grid; each of shape (L_0, ..., L_(K-1)).

    `levels` ascend at each exit. Sums of whole numbers are exact; other costs are rounded as sums of floats are.
    """
    right, macs = table.answers(fallback).astype(float), table.macs
    found = np.array(right[0].sum()), np.array(macs[0].sum())
    cell, left = np.zeros(right.shape[1], np.int64), np.ones(right.shape[1], np.bool_)
    shape: tuple[int, ...] = ()
    for k, own in enumerate(levels):
        # levels under which the image leaves here
        below = np.searchsorted(np.asarray(own), table.confidence[k])
        cell = cell * len(own) + below
        left &= below < len(own)
        shape = (*shape, len(own))
        found = (
            found[0][..., None] + _sums(cell[left], (right[k + 1] - right[k])[left], shape),
            found[1][..., None] + _sums(cell[left], (macs[k + 1] - macs[k])[left], shape),
        )
    return found


def _sums(cell: Ints, value: Floats, shape: tuple[int, ...]) -> Floats:
    """For each cell the sum of the values in it and in all cells below it on every axis."""
    sums: Floats = np.bincount(cell, value, prod(shape)).astype(float, copy=False).reshape(shape)
    for axis in range(len(shape)):
        np.cumsum(sums, axis, out=sums)
    return sums


def grid_front(
    table: ExitTable, levels: Sequence[Sequence[float]], fallback: str = "deepest"
) -> list[tuple[tuple[float, ...], float, float]]:
    """(thresholds, accuracy, mean MACs) of the grid's vectors that no other of them beats, cheapest first, exactly."""
    images = table.confidence.shape[1]
    right, macs = (total.ravel() for total in totals(table, levels, fallback))
    count = np.rint(right).astype(np.int64)
    cheapest = np.full(images + 1, np.inf)
    # accuracy has N + 1 values: the front is among the cheapest of each
    np.minimum.at(cheapest, count, macs)
    better = np.append(np.minimum.accumulate(cheapest[::-1])[::-1][1:], np.inf)
    cheapest[cheapest >= better] = np.nan
    first = np.flatnonzero(macs == cheapest[count])
    count, kept = np.unique(count[first], return_index=True)
    places = np.unravel_index(first[kept], [len(own) for own in levels])
    vectors = np.stack(
        [np.asarray(own)[place] for own, place in zip(levels, places, strict=True)], 1
    )
    return [
        (tuple(map(float, vector)), float(n / images), float(m / images))
        for vector, n, m in zip(vectors, count, macs[first[kept]], strict=True)
    ]


def levels_within(
    table: ExitTable, epsilon: float = 0.0, *, most: int = MOST, fallback: str = "deepest"
) -> tuple[list[list[float]], float]:
    """(ascending levels of each exit, slack): to the front over all thresholds the grid's front lacks at most `slack`.

    That is: whatever thresholds t are set, some vector of the grid takes no more MACs and has at least t's accuracy
    minus slack. Slack is at most `epsilon`, unless that needs a grid of more than `most` vectors; it is 0 (the front
    over all vectors of all distinct confidences, exactly) where `epsilon` is 0 and `most` suffices.

    Proof. Costs rise from exit to exit, as they add up. Round each t_k down to a level; at the lowest all images leave.
    No image leaves later than under t, so none costs more. An image that is answered worse leaves at an exit k where
    it did not leave under t, wrong there, and right at a later exit or the fallback: call it a gain of exit k. Its
    confidence lies above the level and not above t_k, which lies below the next level. At exit k these are at most the
    most gains strictly between two levels (the upper level lies right above a confidence, which counts as its own),
    and slack is the sum of these maxima over the exits, over N. Levels are at every (m + 1)-th gain, m between them;
    equal m at all exits is what makes the product of the numbers of levels least for their sum.
    """
    answers, images = table.answers(fallback), table.confidence.shape[1]
    distinct, ranks = [], []
    for k, row in enumerate(table.confidence):
        values, rank = np.unique(row, return_inverse=True)
        distinct.append(values)
        ranks.append(np.sort(rank[~answers[k] & answers[k + 1 :].any(0)]))
    between = int(epsilon * images / table.exits)
    while prod(len(_cuts(rank, between)) for rank in ranks) > most:
        between = max(between + 1, int(between * 1.05))
    cuts = [_cuts(rank, between) for rank in ranks]
    slack = sum(_most_between(rank, cut) for rank, cut in zip(ranks, cuts, strict=True)) / images
    return [_thresholds(values, cut) for values, cut in zip(distinct, cuts, strict=True)], slack


def _cuts(rank: Ints, between: int) -> Ints:
    """From which rank of confidence on images leave: for all images, and right above every so many-th gain."""
    return np.unique([0, *(rank[between :: between + 1] + 1)])


def _most_between(rank: Ints, cuts: Ints) -> int:
    """The most gains that a threshold between two cuts keeps and the lower cut does not."""
    inside = rank[~np.isin(rank + 1, cuts)]
    return int(np.bincount(np.searchsorted(cuts, inside, "right"), minlength=1).max())


def _thresholds(values: Floats, cuts: Ints) -> list[float]:
    """Thresholds half-way between distinct confidences, so that a rounding error sends no image elsewhere."""
    edges = np.array(
        [-1.0, *np.minimum((values[1:] + values[:-1]) / 2, np.nextafter(values[1:], -1)), 1.0]
    )
    return [float(edge) for edge in edges[cuts]]
