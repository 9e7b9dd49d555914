"""Finalists: the front's most valuable trainings, done again from other seeds and for longer, and what that shows.

A front is the best of many noisy trainings, so its accuracies flatter. Of two kinds of luck this measures one, that of
the training's seed: finalists are measured on the validation images that the search measured its trials on, and the
settings of their gates and exits are chosen on these as well. For that other kind see search.export.selection_bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from search.front.curves import leaders
from search.front.eligible import curve_of, eligible
from search.front.pareto import reference_point_of
from search.front.region import corner_of
from search.front.stored import study_costs, study_front
from search.objectives import Cost, Reference
from search.spec import stored_spec
from storage.records import TIMED, TIMED_STATIC, Kind, PointRecord, State, StudyRecord
from storage.store import Store
from trainers.metrics import ACCURACY

SEEDS = 3  # trainings of each finalist, none of them from the seed that the search used
LONGER = 2  # times the epochs of the trial
SURE = 0.05  # level of the test, and one minus that of the intervals
ROUNDING = 1e-9  # of a cost, relative


@dataclass(frozen=True)
class Retrained:
    """A point of the front and what its training does again: best accuracies at no more than the point's costs.

    `accuracies`: of the seeds that have an answer so cheap, of `seeds`. The interval is the t-interval of their mean:
    luck of training, not of images.
    """

    trial: int
    costs: dict[str, float]
    searched: float  # the accuracy that the search saw
    seeds: int
    accuracies: tuple[float, ...]
    mean: float | None
    low: float | None
    high: float | None
    dominated_by: int | None  # a finalist that is better at no more cost
    measured_ms: float | None  # of the whole network on the machine of the study's latency table
    static_ms: float | None  # of the static network beside it, measured in turn

    @property
    def has_every_seed(self) -> bool:
        """Whether every seed has an answer."""
        return len(self.accuracies) == self.seeds


def rank_trials(store: Store, record: StudyRecord) -> list[int]:
    """The trials on the front by the hypervolume that would be lost without them, in the study's region; most first.

    Baselines on the front are left out.
    """
    front = study_front(store, record, cascades=False)
    members, points = front.members, front.points
    if not (on_front := sorted({p.trial for p in members if p.kind == Kind.SEARCH})):
        return []
    spec, costs = stored_spec(record.spec), study_costs(record)
    reference = reference_point_of(Reference(**record.reference), costs)
    corner = corner_of(spec.region, reference, costs, max(p.accuracy for p in members))
    curves = {
        trial: curve_of([p for p in points if p.training == (Kind.SEARCH, trial)], reference, costs)
        / corner
        for trial in on_front
    }
    return leaders(curves, len(curves))


def report(store: Store, record: StudyRecord) -> dict[str, Any]:
    """What the finalists show, from our tables: for each of their points on the front, and on the mean.

    `selection_bias` is the accuracy that the search saw minus the mean of the seeds, mean over the points where every
    seed has an answer at no more cost. The points of one training share their luck: fewer than `points` of them are
    independent. Finalists train for LONGER times the epochs, which makes them better and this difference too small.
    """
    costs, curves = study_costs(record), _curves(store, record)
    rows = []
    for point in study_front(store, record, cascades=False).members:
        if point.kind == Kind.SEARCH and point.trial in curves:
            budget = _costs(point, costs)
            within = {trial: _within(seeds, costs, budget) for trial, seeds in curves.items()}
            rows.append(
                _row(
                    point,
                    dict(zip([cost.column for cost in costs], budget, strict=True)),
                    len(curves[point.trial]),
                    within,
                )
            )
    biases = [
        row.searched - row.mean for row in rows if row.has_every_seed and row.mean is not None
    ]
    metric = stored_spec(record.spec).metric
    return {
        "study": record.name,
        **({} if metric is ACCURACY else {"metric": metric.name}),
        "seeds": SEEDS,
        "times_the_epochs": LONGER,
        "points": [_shown(row) for row in rows],
        "selection_bias": {
            "mean": float(np.mean(biases)) if biases else None,
            "points": len(biases),
            "finalists": len({row.trial for row in rows if row.has_every_seed}),
            "left_out": len(rows) - len(biases),
        },
    }


def _shown(row: Retrained) -> dict[str, Any]:
    """The row, without times where none were measured."""
    untimed = ("measured_ms", "static_ms") if row.measured_ms is None else ()
    return {key: value for key, value in asdict(row).items() if key not in untimed}


def _curves(store: Store, record: StudyRecord) -> dict[int, list[list[PointRecord]]]:
    """By trial the points of each complete training of its finalists."""
    points: dict[int, list[PointRecord]] = {}
    for stored in store.points(record.name, kind=Kind.FINALIST):
        points.setdefault(stored.trial, []).append(stored)
    found: dict[int, list[list[PointRecord]]] = {}
    for one in store.trials(record.name, kind=Kind.FINALIST, state=State.COMPLETE):
        own = eligible(points.get(one.number, []), Reference(**record.reference))
        found.setdefault(one.result["finalist_of"], []).append(own)
    return found


def _within(
    seeds: Sequence[Sequence[PointRecord]], costs: Sequence[Cost], budget: Sequence[float]
) -> tuple[float, ...]:
    """For each seed with a point within the budget of costs, the best accuracy of such points."""
    most = np.array(budget) * (1 + ROUNDING)
    answers = (
        [p.accuracy for p in points if (np.array(_costs(p, costs)) <= most).all()]
        for points in seeds
    )
    return tuple(max(answer) for answer in answers if answer)


def _row(
    point: PointRecord, costs: dict[str, float], seeds: int, within: Mapping[int, tuple[float, ...]]
) -> Retrained:
    own = within[point.trial]
    low, high = _interval(own) if len(own) > 1 else (None, None)
    better = [
        trial
        for trial, other in within.items()
        if trial != point.trial and surely_better(other, own)
    ]
    return Retrained(
        trial=point.trial,
        costs=costs,
        searched=point.accuracy,
        seeds=seeds,
        accuracies=own,
        mean=float(np.mean(own)) if own else None,
        low=low,
        high=high,
        dominated_by=max(better, key=lambda trial: float(np.mean(within[trial])), default=None),
        measured_ms=point.extra.get(TIMED),
        static_ms=point.extra.get(TIMED_STATIC),
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t-interval of the mean of two values or more."""
    from scipy.special import stdtrit

    mean, reach = float(np.mean(values)), float(stdtrit(len(values) - 1, 1 - SURE / 2))
    reach *= float(np.std(values, ddof=1)) / sqrt(len(values))
    return mean - reach, mean + reach


def surely_better(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether our mean is higher by a one-sided t-test without equal variances; never with fewer than two values each.

    Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika, 1947. Not corrected for the number of pairs that are compared.
    """
    if min(len(ours), len(theirs)) < 2:
        return False
    if np.ptp(ours) == 0 and np.ptp(theirs) == 0:  # the test's limit
        return ours[0] > theirs[0]
    return welch_p(ours, theirs) < SURE


def welch_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """One-sided p of our mean being higher; two values or more each, and not all alike in both.

    What `scipy.stats.ttest_ind` gives with equal_var=False, which takes most of a second to import.
    """
    from scipy.special import stdtr

    a, b = (float(np.var(one, ddof=1)) / len(one) for one in (ours, theirs))
    freedom = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (len(theirs) - 1))
    t = float(np.mean(ours) - np.mean(theirs)) / sqrt(a + b)
    return float(stdtr(freedom, -t))


def _costs(point: PointRecord, costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.of(point) for cost in costs)
