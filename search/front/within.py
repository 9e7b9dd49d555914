"""Picking a point within bounds, where some of the latencies were measured and others predicted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite

from search.front.measured_latency import as_measured
from search.front.pick import limited_cost, pick
from search.objectives import LATENCY, MACS, Cost
from storage.records import PointRecord


@dataclass(frozen=True)
class Bounds:
    """What a point may cost at most, and how accurate it must be on validation; None: no bound."""

    max_macs: float | None = None
    max_latency_ms: float | None = None
    min_accuracy: float | None = None

    def by_column(self, cost: Cost) -> dict[str, float]:
        """By column of a point. One on MACs or latency is on that of the study's cost, else on the mean."""
        given = {MACS: self.max_macs, LATENCY: self.max_latency_ms}
        found = {
            limited_cost(one, cost).column: most for one, most in given.items() if most is not None
        }
        return found if self.min_accuracy is None else found | {"accuracy": self.min_accuracy}

    def on_mean_latency(self, cost: Cost) -> bool:
        """Whether latency is bound, and its mean: a study may minimise another percentile."""
        return LATENCY.column in self.by_column(cost)


def picked(
    rule: str,
    bounds: Bounds,
    members: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost,
) -> PointRecord:
    """The point of the front that the rule picks within the bounds.

    A bound on mean latency holds for what points were measured at, as far as they were.
    Raises ValueError with the nearest offer, as `search.front.pick.pick` does.
    """
    known = [*members, *baselines]
    if not bounds.on_mean_latency(cost):
        return _picked(rule, bounds, known, known, len(members), cost)
    try:
        return _picked(rule, bounds, known, as_measured(known), len(members), cost)
    except ValueError:
        with suppress(ValueError):  # what was not timed may still keep the bound
            return _picked(rule, bounds, known, as_measured(known, 1.0), len(members), cost)
        raise


def _picked(
    rule: str,
    bounds: Bounds,
    known: Sequence[PointRecord],
    seen: Sequence[PointRecord],
    members: int,
    cost: Cost,
) -> PointRecord:
    """Of the known points as they are seen: the first ones are of the front, others are baselines."""
    found = pick(
        seen[:members],
        rule,
        baselines=seen[members:],
        max_macs=bounds.max_macs,
        max_latency_ms=bounds.max_latency_ms,
        min_accuracy=bounds.min_accuracy,
        cost=_cost_of(rule, cost, seen[:members]),
        limited=cost,
    )
    return next(p for p, own in zip(known, seen, strict=True) if own is found)


def _cost_of(rule: str, cost: Cost, members: Sequence[PointRecord]) -> Cost:
    """The cost that the rule goes by: the study's, but of the fastest point latency, where all points have it."""
    timed = all(isfinite(LATENCY.of(p)) for p in members)
    return LATENCY if rule == "fastest" and timed and cost.measure == MACS.measure else cost
