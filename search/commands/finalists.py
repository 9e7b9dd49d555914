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
from rich.console import Console
from rich.table import Table
from scipy import stats

from search.front.curves import leaders
from search.front.eligible import curve_of, eligible
from search.front.pareto import reference_point_of
from search.front.region import corner_of
from search.front.stored import study_costs, study_front
from search.objectives import Cost, Reference, macs_text
from search.run.books import Books
from search.run.data import data_spec, load_data, task_of
from search.run.driver import Driver
from search.run.engine import engine_for
from search.run.lease import lease
from search.run.number_formats import NumberFormats
from search.run.progress import Progress
from search.run.time_spent import TimeSpent
from search.schedule.finalist_plan import LONGER, SEEDS, FinalistPlan
from search.spec import StudySpec, stored_spec
from storage.records import Kind, PointRecord, State, StudyRecord
from storage.settings import Settings
from storage.store import Store

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

    @property
    def has_every_seed(self) -> bool:
        """Whether every seed has an answer."""
        return len(self.accuracies) == self.seeds


def rank_trials(store: Store, record: StudyRecord) -> list[int]:
    """The trials on the front by the hypervolume that would be lost without them, in the study's region; most first.

    Baselines on the front are left out.
    """
    members, points, _, _ = study_front(store, record)
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


def search_finalists(
    spec: StudySpec, settings: Settings, console: Console, *, count: int, workers: int
) -> dict[str, Any]:
    """Train the study's finalists, or those that are still missing, and report. The study must be there."""
    store = Store.open(settings.database_url)
    with lease(store, spec.study) as held:
        record = store.study(spec.study)
        engine = engine_for(workers)
        trials = rank_trials(store, record)[:count]
        with Progress(
            console, f"{spec.study}, finalists", SEEDS * len(trials), max(1, workers)
        ) as progress:
            store.say_on(progress.say)
            stored = stored_spec(record.spec)
            formats = NumberFormats(
                store.formats,
                spec.study,
                lambda: task_of(load_data(data_spec(stored))),
                progress.say,
            )
            try:
                Driver(
                    spec=stored,
                    plan=FinalistPlan(store, spec.study, trials),
                    books=Books(store, spec.study, stored.costs),
                    time=TimeSpent(store, spec.study),
                    engine=engine,
                    progress=progress,
                    checkpoints=str(settings.checkpoints),
                    counts=Kind.FINALIST,
                    ours=lambda: not held.lost,
                    formatted=formats.of,
                ).run()
            finally:
                formats.close()
    return report(store, record)


def report(store: Store, record: StudyRecord) -> dict[str, Any]:
    """What the finalists show, from our tables: for each of their points on the front, and on the mean.

    `selection_bias` is the accuracy that the search saw minus the mean of the seeds, mean over the points where every
    seed has an answer at no more cost. The points of one training share their luck: fewer than `points` of them are
    independent. Finalists train for LONGER times the epochs, which makes them better and this difference too small.
    """
    costs, curves = study_costs(record), _curves(store, record)
    rows = []
    for point in study_front(store, record)[0]:
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
    return {
        "study": record.name,
        "seeds": SEEDS,
        "times_the_epochs": LONGER,
        "points": [asdict(row) for row in rows],
        "selection_bias": {
            "mean": float(np.mean(biases)) if biases else None,
            "points": len(biases),
            "finalists": len({row.trial for row in rows if row.has_every_seed}),
            "left_out": len(rows) - len(biases),
        },
    }


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
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t-interval of the mean of two values or more."""
    mean, reach = float(np.mean(values)), float(stats.t.ppf(1 - SURE / 2, len(values) - 1))
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
    a, b = ((np.mean(one), np.std(one, ddof=1), len(one)) for one in (ours, theirs))
    return bool(
        stats.ttest_ind_from_stats(*a, *b, equal_var=False, alternative="greater").pvalue < SURE
    )


def _costs(point: PointRecord, costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.of(point) for cost in costs)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print a report as a table and one line."""
    if not found["points"]:
        console.print(
            f"{found['study']}: no finalist is on the front; train some: dynafront search FILE --finalists 3"
        )
        return
    names = list(found["points"][0]["costs"])
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("trial", *(f"{name} <=" for name in names), "in the search", "mean of seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("95 % interval", "seeds", "dominated by"):
        table.add_column(name, no_wrap=True)
    for row in found["points"]:
        dominated = row["dominated_by"]
        table.add_row(
            str(row["trial"]),
            *(macs_text(row["costs"][name]) for name in names),
            f"{row['searched']:.2%}",
            "-" if row["mean"] is None else f"{row['mean']:.2%}",
            "-" if row["low"] is None else f"{row['low']:.1%} - {row['high']:.1%}",
            f"{len(row['accuracies'])} of {row['seeds']}",
            "" if dominated is None else f"trial {dominated}",
        )
    console.print(
        f"Finalists, trained again from other seeds for {found['times_the_epochs']} times the epochs:"
    )
    console.print(table)
    console.print(bias_text(found), highlight=False, soft_wrap=True)


def bias_text(found: Mapping[str, Any]) -> str:
    """The selection bias of a report in one line, with what makes it too small."""
    bias = found["selection_bias"]
    left = (
        f"; {bias['left_out']} left out, for which some seed has no answer so cheap"
        if bias["left_out"]
        else ""
    )
    if bias["mean"] is None:
        return f"selection bias: not known (n = 0 points{left})"
    return (
        f"selection bias: accuracy in the search - mean of seeds = {100 * bias['mean']:+.2f} points of accuracy (n = "
        f"{bias['points']} points of {bias['finalists']} finalists{left}). Too small: finalists had "
        f"{found['times_the_epochs']} times the epochs."
    )
