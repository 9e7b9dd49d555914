"""Trainings compared by all their operating points, not by one of them.

A curve is an array (P, D) of one training's P operating points as losses in D objectives, all minimised and scaled by
the reference point: 0 is perfect, 1 as bad as the reference point. Column 0 is accuracy's loss, the others are costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
NOTHING = 1e-12  # hypervolume that is rounding, not growth
LEAST = 2e-3  # accuracy loss below which two networks cannot be told apart


@dataclass(frozen=True)
class ReferencePoint:
    """What losses are measured from: accuracy at chance, and the highest costs that count."""

    accuracy: float
    costs: tuple[float, ...]

    def curve(self, values: Iterable[Sequence[float]]) -> Curve:
        """Points as (accuracy, cost, ...) to losses; what is not finite is left out."""
        found = np.array([tuple(row) for row in values], dtype=np.float64).reshape(
            -1, 1 + len(self.costs)
        )
        found = found[np.isfinite(found).all(1)]
        found[:, 0] = (1 - found[:, 0]) / (1 - self.accuracy)
        found[:, 1:] /= np.array(self.costs)
        return found


def inside(curve: Curve) -> Curve:
    """The points that are better than the reference point in every objective."""
    return curve[(curve < 1).all(1)]


def own_front(curve: Curve) -> Curve:
    """The points that no other beats, cheapest first (by the first cost, if there is one)."""
    if not len(curve):
        return curve
    kept = curve[moocore.is_nondominated(curve)]
    return kept[np.argsort(kept[:, -1 if kept.shape[1] == 1 else 1], kind="stable")]


def volume(curve: Curve) -> float:
    """Hypervolume: the share, in [0, 1], of what lies below the reference point that the points dominate."""
    within = inside(curve)
    return float(moocore.hypervolume(within, ref=np.ones(within.shape[1]))) if len(within) else 0.0


def contributions(curves: Mapping[int, Curve], members: Sequence[int]) -> dict[int, float]:
    """The hypervolume that would be lost without each of these trainings (all their points)."""
    whole = np.concatenate([curves[one] for one in members])
    total = volume(whole)
    owner = np.concatenate([np.full(len(curves[one]), one) for one in members])
    return {one: total - volume(whole[owner != one]) for one in members}


def layers(curves: Mapping[int, Curve]) -> dict[int, int]:
    """For each training the best layer of non-dominated sorting that one of its points is in; 0 is the front.

    Non-dominated sorting: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation, 2002. A training without a point
    below the reference point comes last.
    """
    return layers_of_fronts({number: own_front(inside(one)) for number, one in curves.items()})


def layers_of_fronts(own: Mapping[int, Curve]) -> dict[int, int]:
    """The same of trainings whose own fronts, of points below the reference point, are known."""
    points = [curve for curve in own.values() if len(curve)]
    if not points:
        return dict.fromkeys(own, 0)
    rank = moocore.pareto_rank(np.concatenate(points))
    last, found, start = int(rank.max()) + 1, {}, 0
    for number, curve in own.items():
        found[number] = int(rank[start : start + len(curve)].min()) if len(curve) else last
        start += len(curve)
    return found


def leaders(curves: Mapping[int, Curve], count: int) -> list[int]:
    """All trainings of the first layer, and as many of the next as make up `count`, best first.

    Within a layer those come first whose loss would cost most hypervolume. Hypervolume contribution as tie-break:
    Emmerich, Beume and Naujoks, "An EMO algorithm using the hypervolume measure as selection criterion", EMO, 2005.
    """
    layer = layers(curves)
    found: list[int] = []
    for level in sorted(set(layer.values())):
        if level > 0 and len(found) >= count:
            break
        peers = [number for number, own in layer.items() if own == level]
        lost = contributions({one: own_front(inside(curves[one])) for one in peers}, peers)
        peers.sort(key=lambda one: -lost[one])
        found += peers if level == 0 else peers[: count - len(found)]
    return found


def losses_within(curve: Curve, budgets_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) the least accuracy loss among points within each budget of K costs.

    Where none is within it, 1 and more: how far the nearest point is over the budget, in powers of e; 3 at most.
    """
    least = np.maximum(budgets_BK, 1e-9)[:, None]
    over_BP = np.log(np.maximum(curve[None, :, 1:] / least, 1e-9)).max(2, initial=-np.inf)
    value = np.where(over_BP <= 0, np.minimum(curve[:, 0], 1.0), 1.0 + np.maximum(over_BP, 0))
    return value.min(1, initial=3.0)
