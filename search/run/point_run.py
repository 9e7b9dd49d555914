"""What the run of an operating point shows in MLflow: which setting of which network it is, and what was measured."""

from __future__ import annotations

from math import log10
from typing import Any

from search.front.formats import leaves
from search.front.stored import StudyFront
from search.objectives import Cost
from search.report.front_points import thinned
from search.report.text import knobs_text, readable_knobs
from storage import measure_names as names
from storage.mlflow_points import PointRun
from storage.records import TIMED, Kind, OperatingPoint, PointRecord, training_text
from trainers.metrics import METRICS

MOST = 100  # runs that MLflow's charts load at once
MOST_BASELINES = 40  # of them
NAME_CHARACTERS = 120


LATENCIES = {
    "latency_mean": names.LATENCY_MEAN,
    "latency_p95": names.LATENCY_P95,
    "latency_max": names.LATENCY_MAX,
    TIMED: names.LATENCY_MEASURED,
}


def point_runs(front: StudyFront, cost: Cost) -> list[PointRun]:
    """A run for each point of the front, and for each baseline, as many as MLflow's charts draw; the cheapest first.

    Of more, some in the middle are left out evenly.
    """
    on_front = {p.id for p in front.members}
    others = [p for p in front.baselines if p.id not in on_front]
    baselines = thinned(sorted(others, key=cost.of), MOST_BASELINES)
    members = thinned(front.members, MOST - len(baselines))
    shown = sorted([*members, *baselines], key=cost.of)
    return [_point_run(p, on_front=p.id in on_front) for p in shown]


def point_measures(p: OperatingPoint) -> dict[str, float]:
    """The metric with its interval, top-1 and top-5 accuracy, and costs in units that read well."""
    own = names.validation(METRICS[p.metric].label)
    measures = {
        names.ACCURACY: p.top1,
        own: p.accuracy,
        names.low(own): p.accuracy_low,
        names.high(own): p.accuracy_high,
        names.MACS_MEAN: p.macs_mean / 1e6,
        names.MACS_P95: p.macs_p95 / 1e6,
        names.MACS_MAX: p.macs_max / 1e6,
        names.PARAMETERS: p.parameters / 1e6,
    }
    for column, name in LATENCIES.items():
        if column in p.extra:
            measures[name] = p.extra[column]
    if p.top5 is not None:
        measures[names.TOP5] = p.top5
    if p.macs_mean > 0:
        measures[names.MACS_LOG] = log10(p.macs_mean)
    return measures


def cost_measure(cost: Cost) -> str:
    """The measure that a chart of the front has on its axis."""
    own = {
        "macs_mean": names.MACS_MEAN,
        "macs_p95": names.MACS_P95,
        "parameters": names.PARAMETERS,
        **LATENCIES,
    }
    return own.get(cost.column, names.MACS_MEAN)


def _point_run(p: PointRecord, *, on_front: bool) -> PointRun:
    settings = leaves(readable_knobs(p.knobs), "knob.")
    return PointRun(
        key=str(p.id),
        name=f"{training_text(p.kind, p.trial)}: {knobs_text(p.knobs)}"[:NAME_CHARACTERS],
        tags={
            "automl.kind": "baseline" if p.kind == Kind.BASELINE else "point",
            "automl.trial": str(p.trial),
        },
        params=_params(p) | settings,
        metrics=point_measures(p),
        on_front=on_front,
    )


def _params(p: PointRecord) -> dict[str, Any]:
    return {"family": p.family, **leaves(p.params)}
