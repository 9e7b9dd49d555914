"""Operating points, the front of those that no other beats, its hypervolume, and picking one of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import isfinite
from typing import Any

import moocore
import numpy as np

from search.curves import Box, volume
from search.objectives import MACS, Cost, Reference, macs_text
from storage.records import PointRecord, training_text

RULES = ("knee", "best", "fastest")
JSON_KEYS = (
    *("trial", "kind", "family", "accuracy", "accuracy_low", "accuracy_high"),
    *("macs_mean", "macs_p95", "macs_max", "parameters", "knobs", "params"),
)
Costs = Sequence[Cost]  # what is minimised: one cost, several, or none (the most accurate alone)


def front(points: Iterable[PointRecord], costs: Costs = (MACS,)) -> list[PointRecord]:
    """The points that no other beats (higher accuracy, lower costs), cheapest first.

    Of several with equal accuracy and costs the first stays. Points that are not finite are left out.
    """
    finite = _finite(points, costs)
    if not finite:
        return []
    kept = moocore.is_nondominated(_values(finite, costs), maximise=[True, *[False] * len(costs)])
    first = costs[0] if costs else MACS
    return sorted((p for p, keep in zip(finite, kept, strict=True) if keep), key=first.of)


def hypervolume(points: Iterable[PointRecord], *, costs: Costs = (MACS,), reference: Reference) -> float:
    """The share in [0, 1] of the box between the reference and (accuracy 1, costs 0) that the points dominate.

    A point beyond the reference (below chance, or more expensive than the largest baseline) adds nothing.
    """
    finite = _finite(points, costs)
    if not finite:
        return 0.0
    return volume(box_of(reference, costs).curve(_values(finite, costs)))


def box_of(reference: Reference, costs: Costs) -> Box:
    """What losses are measured in."""
    return Box(reference.accuracy, tuple(reference.of(cost) for cost in costs))


def hypervolume_history(
    points: Iterable[PointRecord],
    *,
    reference: Reference,
    costs: Costs = (MACS,),
    known: Sequence[PointRecord] = (),
) -> list[tuple[int, float, int]]:
    """(trial, hypervolume, points on the front) after each trial, for points in the order of finishing.

    Only the front is carried from trial to trial. To go on from an earlier call, give the new trials' points
    and, as `known`, the front so far: the cost of a trial then does not grow with the study.
    """
    standing, history = list(known), []
    for (_, trial), added in groupby(points, key=lambda p: p.training):
        standing = front([*standing, *added], costs)
        history.append((trial, hypervolume(standing, costs=costs, reference=reference), len(standing)))
    return history


def pick(
    points: Iterable[PointRecord],
    rule: str = "knee",
    *,
    max_macs: float | None = None,
    min_accuracy: float | None = None,
    cost: Cost = MACS,
) -> PointRecord:
    """One point of the front of those within the limits, by `knee`, `best` or `fastest`.

    best is the most accurate, fastest the cheapest; `knee` is described at `knee`. A limit on MACs is on those of the
    cost, and on the mean where the cost is no MACs.
    Raises ValueError that says what the nearest point offers when no point is within the limits.
    """
    if rule not in RULES:
        raise ValueError(f"{rule!r} is not a way to pick; choose one of {', '.join(RULES)}")
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise ValueError(f"min accuracy {min_accuracy:g} is not between 0 and 1; write 0.95 for 95 %")
    known = list(points)
    if not front(known, (cost,)):
        raise ValueError("there is no point to pick from yet; wait for the first trial to finish")
    limited = MACS if cost.measure != MACS.measure and max_macs is not None else cost
    allowed = front(
        (
            p
            for p in known
            if (max_macs is None or limited.of(p) <= max_macs) and (min_accuracy is None or p.accuracy >= min_accuracy)
        ),
        (cost,),
    )
    if not allowed:
        raise ValueError(_nearest_offer(front(known, (limited,)), max_macs, min_accuracy, limited))
    if rule == "knee":
        return knee(allowed, cost)
    return allowed[-1] if rule == "best" else allowed[0]


def knee(standing: Sequence[PointRecord], cost: Cost = MACS) -> PointRecord:
    """The point of a front sorted by cost that lies farthest above the chord between the front's two ends.

    Cost and accuracy are both scaled to [0, 1] first, so that the units do not matter. Points less than half as
    accurate as the best are left out: nobody ships them, and one of them moves the chord's end. With fewer than
    three points, or none above the chord, the most accurate one.
    After Satopää, Albrecht, Irwin and Raghavan, "Finding a 'kneedle' in a haystack", ICDCS Workshops 2011;
    here nothing is smoothed, and the highest bend of the whole curve counts. Cost is linear, as bills are: on a
    log axis a front that begins with a jump would have its knee at the cheapest point that is worth little.
    """
    useful = [p for p in standing if 2 * p.accuracy >= standing[-1].accuracy]
    if len(useful) < 3:
        return useful[-1]
    x = np.array([cost.of(p) for p in useful])
    y = np.array([p.accuracy for p in useful])
    if x[-1] == x[0]:
        return useful[-1]
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    farthest = int(np.argmax(above))
    return useful[farthest] if above[farthest] > 1e-9 else useful[-1]


def as_json(study: str, points: Iterable[PointRecord], hypervolume: float) -> dict[str, Any]:
    """The front as plain values for `json.dumps`."""
    rows = [{key: getattr(point, key) for key in JSON_KEYS} for point in points]
    return {"study": study, "hypervolume": hypervolume, "points": rows}


def as_csv(points: Iterable[PointRecord]) -> str:
    """One line a point; knobs and params as columns of their own (knob.tau, param.backbone)."""
    rows = [flat(point) for point in points]
    fixed = (*JSON_KEYS[:-2], "run_id")
    own = sorted({column for row in rows for column in row} - set(fixed))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*fixed, *own], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(point: PointRecord) -> dict[str, Any]:
    """The point as one level of columns; lists become JSON text."""
    row = {key: getattr(point, key) for key in (*JSON_KEYS[:-2], "run_id")}
    return {**row, **leaves(point.knobs, "knob."), **leaves(point.params, "param.")}


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: {"gates": {"target": 0.5}} is {"gates.target": 0.5}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(leaves(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = json.dumps(list(value)) if isinstance(value, list | tuple) else value
    return found


def _finite(points: Iterable[PointRecord], costs: Costs) -> list[PointRecord]:
    return [p for p in points if isfinite(p.accuracy) and all(isfinite(cost.of(p)) for cost in costs)]


def _values(points: Sequence[PointRecord], costs: Costs) -> np.ndarray:
    """(points, 1 + costs): accuracy, then costs."""
    return np.array([(p.accuracy, *(cost.of(p) for cost in costs)) for p in points], dtype=np.float64)


def _nearest_offer(
    standing: Sequence[PointRecord], max_macs: float | None, min_accuracy: float | None, cost: Cost
) -> str:
    """What to say when no point of the front is within the limits."""
    cheapest, best = standing[0], standing[-1]
    if min_accuracy is not None and best.accuracy < min_accuracy:
        return f"no point has accuracy >= {min_accuracy:g}; the best has {_offer(best, cost)}"
    if max_macs is not None and cost.of(cheapest) > max_macs:
        limit = f"no point costs <= {macs_text(max_macs)} {cost.unit}"
        return f"{limit}; the cheapest has accuracy {_offer(cheapest, cost)}"
    # each limit can be met, only not both: say what giving way on one of them buys
    assert max_macs is not None
    assert min_accuracy is not None
    within = max((p for p in standing if cost.of(p) <= max_macs), key=lambda p: p.accuracy)
    enough = next(p for p in standing if p.accuracy >= min_accuracy)
    return (
        f"no point has accuracy >= {min_accuracy:g} at <= {macs_text(max_macs)} {cost.unit}; "
        f"the nearest have {_offer(within, cost)} and {_offer(enough, cost)}"
    )


def _offer(point: PointRecord, cost: Cost) -> str:
    # cut, not rounded: 0.9896 must not be offered as 0.990
    accuracy = int(point.accuracy * 1000 + 1e-6) / 1000
    return f"{accuracy:.3f} at {macs_text(cost.of(point))} {cost.unit} ({training_text(*point.training)})"
