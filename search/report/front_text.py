"""What is said of a front, in one sentence or two."""

from __future__ import annotations

from collections.abc import Sequence

from search.objectives import MACS, Cost, macs_text
from search.report.amounts import percent
from storage.records import PointRecord

NO_POINTS = "no operating point yet"


def summary(
    study: str,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    *,
    cost: Cost = MACS,
) -> str:
    """One sentence: how many points the front has, and how many of them the baselines do not match."""
    if not front:
        return f"{study}: {NO_POINTS}"
    count = f"{study}: {len(front)} {'point' if len(front) == 1 else 'points'} on the front"
    if on_front := sum(p.kind == "static" for p in front):
        count += f" ({on_front} of baselines)"
    if not baselines:
        best = max(front, key=lambda p: p.accuracy)
        return f"{count}, up to {percent(best.accuracy)} at {amount(best, cost)}"
    ahead = sum(p.kind != "static" and beats_baselines(p, baselines, cost) for p in front)
    if ahead == 0:
        return f"{count}, none beats the baselines of equal cost"
    return f"{count}, {ahead} {'beats' if ahead == 1 else 'beat'} every baseline of equal cost"


def beats_baselines(
    point: PointRecord, baselines: Sequence[PointRecord], cost: Cost = MACS
) -> bool:
    """Whether it is more accurate than every baseline that costs no more.

    Where no baseline is that cheap, whether it is as accurate as one that costs more.
    """
    rivals = [p.accuracy for p in baselines if cost.of(p) <= cost.of(point)]
    if rivals:
        return point.accuracy > max(rivals)
    return any(point.accuracy >= p.accuracy for p in baselines)


def majority_text(majority: float) -> str:
    """What a network must be better than to be of any use."""
    return f"always answering the largest class: {percent(majority)}"


def about(points: Sequence[PointRecord], hypervolume: float, majority: float | None = None) -> str:
    """The line under the title; `majority` is the accuracy of always answering the largest class."""
    trials = len({p.trial for p in points if p.kind != "static"})
    operating = sum(p.kind != "static" for p in points)
    line = (
        f"{operating:,} operating {'point' if operating == 1 else 'points'} of {trials:,} "
        f"{'trial' if trials == 1 else 'trials'}, hypervolume {hypervolume:.3f}, bars are 95 % intervals"
    )
    return line if majority is None else f"{line}; {majority_text(majority)}"


def amount(p: PointRecord, cost: Cost) -> str:
    """What it costs, in words: "464 k MACs"."""
    return f"{macs_text(cost.of(p))} {cost.unit}"
