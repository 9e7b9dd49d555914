"""Charts that the MLflow UI opens ready-made: a named view of an experiment's runs is one tag of the experiment."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from storage.measure_names import ACCURACY, MACS_LOG, MACS_MEAN
from storage.mlflow_points import SHOWN, VIEW

TAG = "mlflow.sharedViewState."
CURVES = ("val/accuracy", "val/macs", "train/loss", "train/open")
FRONT, CHOICES, LINES = "section-front", "section-params", "section-curves"


def saved_views(
    params: Sequence[str],
    cost: str = MACS_MEAN,
    curves: Sequence[str] = CURVES,
    metric: str = ACCURACY,
) -> dict[str, str]:
    """Value by tag name of the views `pareto` (the front's points and baselines) and `all` (every training).

    `params` of the runs are shown in the table and in a chart of their own, the measure `metric` against the measure
    `cost` in another; `curves` are measures by epoch.
    """
    # the UI loads 100 runs at a time in the view's order: those that matter must come first. Ordered by time it would
    # add the study's run and fold all others away below it
    front = _state(f"tags.`{VIEW}` = '{SHOWN}'", cost, True, params, (metric, cost), ())
    trainings = "tags.`automl.state` != ''"  # points and exports have none
    everything = _state(trainings, metric, False, params, (metric, cost), curves)
    return {
        f"{TAG}pareto": _envelope("Pareto front", front),
        f"{TAG}all": _envelope("All trials", everything),
    }


# what else MLflow's page keeps of a view, as it is before a person chooses anything
UNCHOSEN: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "SHOW_ALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
}


def differing(views: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """Those views that the experiment's tags do not hold yet; the time of writing does not count."""
    return {tag: view for tag, view in views.items() if _content(view) != _content(tags.get(tag))}


def view_path(experiment_id: str, view: str = "pareto") -> str:
    """Path and fragment below an MLflow server's address that open a view with its charts."""
    # without the workflow type a first visit lands in the layout for language models, which has no charts
    query = f"viewStateShareKey={view}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"/#/experiments/{experiment_id}/runs?{query}"


def _state(
    where: str,
    order_by: str,
    ascending: bool,
    params: Sequence[str],
    axes: tuple[str, str],
    curves: Sequence[str],
) -> dict[str, Any]:
    metric, cost = axes
    measures = [metric, cost]
    if cost == MACS_MEAN:
        measures.append(MACS_LOG)
    shown = [*(f"metrics.`{m}`" for m in measures), *(f"params.`{p}`" for p in params)]
    shown += ["tags.`pareto`", "tags.`automl.kind`", "tags.`automl.state`"]
    sections = [
        _section(
            FRONT, f"{metric.removeprefix('validation ').capitalize()} against compute", columns=1
        ),
        _section(CHOICES, "What the networks are made of", columns=1),
    ]
    if curves:
        sections.append(_section(LINES, "Training curves", columns=2))
    return UNCHOSEN | {
        "searchFilter": where,
        "orderByKey": f"metrics.`{order_by}`",
        "orderByAsc": ascending,
        "selectedColumns": shown,
        "compareRunCharts": [
            *_scatters(metric, measures[1:]),
            _parallel(params, axes),
            *_lines(curves),
        ],
        "compareRunSections": sections,
    }


def _scatters(metric: str, costs: Sequence[str]) -> list[dict[str, Any]]:
    # MLflow's axes are linear: over the logarithm of cost is a chart of its own
    return [
        _chart("SCATTER", f"chart-front-{number}", FRONT)
        | {
            "xaxis": {"key": cost, "type": "METRIC"},
            "yaxis": {"key": metric, "type": "METRIC"},
        }
        for number, cost in enumerate(costs)
    ]


def _parallel(params: Sequence[str], axes: tuple[str, str]) -> dict[str, Any]:
    # conditional parameters are missing from some runs, which would vanish from the chart without showAllRuns
    shown = {
        "selectedParams": list(params),
        "selectedMetrics": [*reversed(axes)],
        "showAllRuns": True,
    }
    return _chart("PARALLEL", "chart-params", CHOICES) | shown


def _lines(curves: Iterable[str]) -> list[dict[str, Any]]:
    axes = {
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
    }
    return [
        _chart("LINE", f"chart-{metric.replace('/', '-')}", LINES)
        | axes
        | {"metricKey": metric, "selectedMetricKeys": [metric]}
        for metric in curves
    ]


def _chart(kind: str, uuid: str, section: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "metricSectionId": section,
        "runsCountToCompare": 500,
        "deleted": False,
        "isGenerated": False,
    }


def _section(uuid: str, name: str, columns: int) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "columns": columns,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _envelope(name: str, state: dict[str, Any]) -> str:
    packed = base64.b64encode(
        zlib.compress(json.dumps(state, separators=(",", ":")).encode())
    ).decode()
    return json.dumps(
        {"name": name, "createdAt": int(time.time() * 1000), "state": f"deflate;{packed}"}
    )


def _content(view: str | None) -> tuple[str, str] | None:
    try:
        kept = json.loads(view or "")
        return kept["name"], kept["state"]
    except (ValueError, KeyError, TypeError):
        return None
