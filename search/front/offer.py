"""The point that is exported where no other is asked for: what pages, pictures and texts of a front point out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from search.front.pick import DEFAULT
from search.front.within import Bounds, picked
from search.objectives import COSTS, Cost
from storage.records import PointRecord

NO_BOUNDS = Bounds()


@dataclass(frozen=True)
class Offer:
    """The point, None where the front has none within the bounds; `within` has these in words, empty without any."""

    point: PointRecord | None
    within: str = ""


def budget_of(spec: Mapping[str, Any]) -> Bounds:
    """The highest cost that a stored study's file has as `region`.

    Who searched for networks of at most 5 ms is not given one of 9 unasked.
    """
    region = spec.get("region") or {}
    return Bounds(max_macs=region.get("max_macs"), max_latency_ms=region.get("max_latency_ms"))


def offer_of(
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost,
    budget: Bounds = NO_BOUNDS,
) -> Offer:
    """What the front offers within the budget: the cheapest point that is as good as the best one there."""
    point = None
    with suppress(ValueError):
        point = picked(DEFAULT, budget, front, baselines, cost)
    limits = budget.by_column(cost)
    texts = [one.text(limits[one.column]) for one in COSTS.values() if one.column in limits]
    return Offer(point, f"at most {' and '.join(texts)}" if texts else "")
