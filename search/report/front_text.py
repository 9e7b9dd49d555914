"""What is said of a front, in one sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from search.front.comparison import better
from search.front.flattery import flattery
from search.front.metric import metric_of, named
from search.front.offer import Offer
from search.front.pick import DEFAULT, pick
from search.objectives import MACS, Cost
from search.report.amounts import percent
from storage.records import Kind, PointRecord, training_text
from trainers.metrics import ACCURACY, METRICS, Metric

NO_POINTS = "no operating point yet"


def summary(
    study: str,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    *,
    cost: Cost = MACS,
) -> str:
    """One sentence: how many points the front has, and how they compare with the baselines.

    A point beats a baseline where it is significantly better, see `search.front.comparison.better`, with what choosing
    its thresholds flatters subtracted.
    """
    if not front:
        return f"{study}: {NO_POINTS}"
    count = f"{study}: {len(front)} {'point' if len(front) == 1 else 'points'} on the front"
    if on_front := sum(p.kind == "static" for p in front):
        count += f" ({on_front} of baselines)"
    if not baselines:
        best = max(front, key=lambda p: p.accuracy)
        return f"{count}, up to {_reached(best)} at {amount(best, cost)}"
    flattered = flattery(front)
    found = Counter(
        standing(p, baselines, cost, flattered.get(p.kind, 0.0))
        for p in front
        if p.kind != "static"
    )
    return ", ".join([count, *_standings(found)])


class Standing(Enum):
    """A point beside the baselines that cost no more."""

    AHEAD = "significantly better than each of them"
    LEVEL = "as good as each of them"
    BEHIND = "significantly worse than one of them"
    CHEAPER = "there is none"


def standing(
    point: PointRecord,
    baselines: Sequence[PointRecord],
    cost: Cost = MACS,
    flattered: float = 0.0,
) -> Standing:
    """How the point compares with the baselines of no more cost; it must be ahead by more than it is flattered."""
    rivals = [p for p in baselines if cost.of(p) <= cost.of(point)]
    if not rivals:
        return Standing.CHEAPER
    if all(better(point, rival, flattered) for rival in rivals):
        return Standing.AHEAD
    return Standing.BEHIND if any(better(rival, point) for rival in rivals) else Standing.LEVEL


def _standings(found: Mapping[Standing, int]) -> Iterator[str]:
    """The counts in words, those of points that are neither better nor cheaper last."""
    match found.get(Standing.AHEAD, 0):
        case 0:
            yield "none beats the baselines of equal cost"
        case 1:
            yield "1 beats every baseline of equal cost"
        case ahead:
            yield f"{ahead} beat every baseline of equal cost"
    for where, words in (
        (Standing.LEVEL, "as good"),
        (Standing.CHEAPER, "cheaper than any baseline"),
        (Standing.BEHIND, "worse"),
    ):
        if found.get(where):
            yield f"{found[where]} {words}"


def offer_text(offer: Offer, cost: Cost = MACS) -> str:
    """The point that is exported where no other is asked for, in words."""
    if offer.point is None:
        return f"no point costs {offer.within}" if offer.within else ""
    within = f" of {offer.within}" if offer.within else ""
    return f"{DEFAULT} pick{within}: {_offered(offer.point, cost)}"


def equal_offer(
    front: Sequence[PointRecord], baselines: Sequence[PointRecord], cost: Cost = MACS
) -> str:
    """The cheapest point that keeps the accuracy of the best static network, in words; empty without one of these."""
    if not front or not baselines:
        return ""
    point = pick(front, "equal", baselines=baselines, cost=cost)
    static = min(baselines, key=lambda p: (-p.accuracy, cost.of(p)))
    if point.training == static.training:
        return f"equal pick: none is known to keep the accuracy of the best static network, {_offered(point, cost)}"
    share = cost.of(point) / cost.of(static)
    return (
        f"equal pick: {_offered(point, cost)}: keeps the accuracy of the best static network, "
        f"{_offered(static, cost)}, for {share:.2f} of the cost"
    )


def majority_text(majority: float, metric: Metric = ACCURACY) -> str:
    """What a network must be better than to be of any use."""
    return f"always answering {metric.always}: {named(percent(majority), metric)}"


def about(points: Sequence[PointRecord], hypervolume: float, majority: float | None = None) -> str:
    """The line under the title; `majority` is what always answering the largest class has."""
    trials = len({p.trial for p in points if p.kind == Kind.SEARCH})
    operating = sum(p.kind != "static" for p in points)
    line = (
        f"{operating:,} operating {'point' if operating == 1 else 'points'} of {trials:,} "
        f"{'trial' if trials == 1 else 'trials'}, hypervolume {hypervolume:.3f}, bars are 95 % intervals"
    )
    return line if majority is None else f"{line}; {majority_text(majority, metric_of(points))}"


def _offered(p: PointRecord, cost: Cost) -> str:
    return f"{_reached(p)} at {amount(p, cost)} ({training_text(*p.training)})"


def _reached(p: PointRecord) -> str:
    return named(percent(p.accuracy), METRICS[p.metric])


def amount(p: PointRecord, cost: Cost) -> str:
    """What it costs, in words: "464 k MACs"."""
    return cost.text(cost.of(p))
