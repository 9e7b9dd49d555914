"""Picking one point of a front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from search.front.comparison import at_least, better
from search.front.flattery import flattery
from search.front.metric import metric_of
from search.front.pareto import front
from search.objectives import LATENCY, MACS, Cost
from storage.records import PointRecord, training_text

NO_LATENCY = (
    "no point has a latency: the study has no table of times; dynafront profile makes one, and a study file names it "
    "as `latency` before it is searched"
)
NO_STATIC = (
    "there is no static network to be equal to: the study has no baselines; pick by another rule"
)
RULES = ("efficient", "equal", "best", "fastest", "knee")
DEFAULT = "efficient"
ALIKE = 0.01  # of accuracy: as good as the best
MARGIN = 0.01  # of accuracy: what a point that is equal to a static network may lack
USEFUL = 0.1  # of accuracy: what is farther below the best is never as good
NEXT_TO_NOTHING = 1.05  # times the cost: not worth any accuracy


def pick(
    points: Iterable[PointRecord],
    rule: str = DEFAULT,
    *,
    baselines: Sequence[PointRecord] = (),
    max_macs: float | None = None,
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    cost: Cost = MACS,
    limited: Cost | None = None,
) -> PointRecord:
    """One point of the front of those within the limits, by `efficient`, `equal`, `best`, `fastest` or `knee`.

    best is the most accurate, fastest the cheapest; `efficient`, `equal` and `knee` are described there. `baselines`
    are the static networks, which `equal` compares with. A limit on MACs or latency is on that of `limited`, else of
    the cost, and on the mean where that is another.
    Raises ValueError that says what the nearest point offers when no point is within the limits.
    """
    if rule not in RULES:
        raise ValueError(f"{rule!r} is not a way to pick; choose one of {', '.join(RULES)}")
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise ValueError(
            f"min accuracy {min_accuracy:g} is not between 0 and 1; write 0.95 for 95 %"
        )
    known = list(points)
    if not front(known, (cost,)):
        raise ValueError("there is no point to pick from yet; wait for the first trial to finish")
    given = ((MACS, max_macs), (LATENCY, max_latency_ms))
    limits = [(limited_cost(one, limited or cost), most) for one, most in given if most is not None]
    if max_latency_ms is not None and not front(known, (LATENCY,)):
        raise ValueError(NO_LATENCY)

    def is_allowed(p: PointRecord) -> bool:
        within = all(one.of(p) <= most for one, most in limits)
        return within and (min_accuracy is None or p.accuracy >= min_accuracy)

    allowed = front(filter(is_allowed, known), (cost,))
    if not allowed:
        raise ValueError(_offers(known, limits or [(cost, None)], min_accuracy))
    if rule == "equal":
        return equal(known, baselines, cost, is_allowed)
    if rule == "efficient":
        return efficient(allowed, cost)
    if rule == "knee":
        return knee(allowed, cost)
    return allowed[-1] if rule == "best" else allowed[0]


def limited_cost(one: Cost, cost: Cost) -> Cost:
    """What a limit on `one` is on: on the cost that the study minimises where both measure the same."""
    return cost if cost.measure == one.measure else one


def efficient(members: Sequence[PointRecord], cost: Cost = MACS) -> PointRecord:
    """The cheapest point of a front sorted by cost that is as accurate as its best one.

    That is: within one point of accuracy, or not significantly worse. Few images can hardly tell networks apart, so one
    that is ten points worse is never as good. Of points that cost next to nothing more, the most accurate.
    """
    best = max(members, key=lambda p: p.accuracy)

    def as_good(p: PointRecord) -> bool:
        behind = best.accuracy - p.accuracy - 1e-9
        return behind <= ALIKE or (behind <= USEFUL and not better(best, p))

    enough = cost.of(next(p for p in members if as_good(p)))
    return max(
        (p for p in members if cost.of(p) <= NEXT_TO_NOTHING * enough), key=lambda p: p.accuracy
    )


def equal(
    members: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost = MACS,
    is_allowed: Callable[[PointRecord], bool] = lambda p: True,
) -> PointRecord:
    """The cheapest point that keeps the accuracy of the most accurate static network, which may be that network itself.

    Keeps: with 95 % confidence it is at most MARGIN less accurate, on the same validation images, with what choosing
    thresholds flatters subtracted. A test of non-inferiority along a front, as in Laufer-Goldshtein, Fisch, Barzilay
    and Jaakkola, "Efficiently Controlling Multiple Risks with Pareto Testing", ICLR, 2023; there the front is searched
    on one half of the images and tested on the other, which was worse on other images more often (docs/search.md).
    Raises ValueError where there is no static network, or nothing within the limits keeps its accuracy.
    """
    if not baselines:
        raise ValueError(NO_STATIC)
    static = min(baselines, key=lambda p: (-p.accuracy, cost.of(p)))
    flattered = flattery(members)

    def keeps(p: PointRecord) -> bool:
        return p is static or at_least(p, static, flattered.get(p.kind, 0.0) - MARGIN)

    others = [p for p in members if p.training != static.training]
    known = [p for p in (*others, static) if cost.of(p) <= cost.of(static) and is_allowed(p)]
    if not (kept := [p for p in known if keeps(p)]):
        raise ValueError(
            f"no point within the limits is known to keep the {metric_of(baselines).label} of the best static network, "
            f"{_offer(static, cost)}; raise the limits, or hold out more validation images"
        )
    return min(kept, key=cost.of)


def knee(members: Sequence[PointRecord], cost: Cost = MACS) -> PointRecord:
    """The point of a front sorted by cost that lies farthest above the chord between the front's two ends.

    Cost and accuracy are both scaled to [0, 1] first, so that the units do not matter. Points less than half as
    accurate as the best are left out: they are not shipped, and one of them moves the chord's end. With fewer than
    three points, or none above the chord, the most accurate one.
    After Satopää, Albrecht, Irwin and Raghavan, "Finding a 'kneedle' in a haystack", ICDCS Workshops 2011;
    here nothing is smoothed, and the highest bend of the whole curve counts. Cost is linear, as bills are: on a
    log axis a front that begins with a jump would have its knee at the cheapest point, which is of little use.
    """
    useful = [p for p in members if 2 * p.accuracy >= members[-1].accuracy]
    if len(useful) < 3:
        return useful[-1]
    x = np.array([cost.of(p) for p in useful])
    y = np.array([p.accuracy for p in useful])
    if x[-1] == x[0]:
        return useful[-1]
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    farthest = int(np.argmax(above))
    return useful[farthest] if above[farthest] > 1e-9 else useful[-1]


def _offers(
    known: Sequence[PointRecord],
    limits: Sequence[tuple[Cost, float | None]],
    min_accuracy: float | None,
) -> str:
    """What to say when no point is within the limits: of the first one that no point keeps, else of all together."""
    for cost, most in limits:
        within = [p for p in known if most is None or cost.of(p) <= most]
        if not any(min_accuracy is None or p.accuracy >= min_accuracy for p in within):
            return _nearest_offer(front(known, (cost,)), most, min_accuracy, cost)
    texts = " and ".join(cost.text(most) for cost, most in limits if most is not None)
    accurate = "" if min_accuracy is None else f" with accuracy >= {min_accuracy:g}"
    return f"no point{accurate} costs at most {texts}, but some keep each limit alone; raise one of them"


def _nearest_offer(
    members: Sequence[PointRecord], most: float | None, min_accuracy: float | None, cost: Cost
) -> str:
    """What to say when no point of the front is within the limits."""
    cheapest, best, metric = members[0], members[-1], metric_of(members)
    if min_accuracy is not None and best.accuracy < min_accuracy:
        return f"no point has {metric.label} >= {min_accuracy:g}; the best has {_offer(best, cost)}"
    if most is not None and cost.of(cheapest) > most:
        limit = f"no point costs <= {cost.text(most)}"
        return f"{limit}; the cheapest has {metric.label} {_offer(cheapest, cost)}"
    # each limit can be met, only not both: say what giving way on one of them buys
    assert most is not None
    assert min_accuracy is not None
    within = max((p for p in members if cost.of(p) <= most), key=lambda p: p.accuracy)
    enough = next(p for p in members if p.accuracy >= min_accuracy)
    return (
        f"no point has {metric.label} >= {min_accuracy:g} at <= {cost.text(most)}; "
        f"the nearest have {_offer(within, cost)} and {_offer(enough, cost)}"
    )


def _offer(point: PointRecord, cost: Cost) -> str:
    # cut, not rounded: 0.9896 must not be offered as 0.990
    accuracy = int(point.accuracy * 1000 + 1e-6) / 1000
    return f"{accuracy:.3f} at {cost.text(cost.of(point))} ({training_text(*point.training)})"
