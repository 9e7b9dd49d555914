"""What the run of a training shows in MLflow: its tags, its measures, its files."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from search.report.text import knobs_text, network_text
from search.run.point_run import point_measures
from storage import measure_names as names
from storage.records import Kind, PointRecord, State, TrialRecord, training_text
from storage.rows import APART
from trainers.metrics import METRICS

if TYPE_CHECKING:
    from search.inspection.measures import Inspection

logger = logging.getLogger(f"dynafront.{__name__}")

KIND_TAGS = {
    Kind.SEARCH: "trial",
    Kind.BASELINE: "static",
    Kind.FINALIST: "finalist",
}


def trial_tags(trial: TrialRecord) -> dict[str, str]:
    tags = {
        "automl.kind": KIND_TAGS[trial.kind],
        "automl.study": trial.study,
        "automl.trial": str(trial.number),
        "automl.state": trial.state,
        "pareto": "false",
    }
    if trial.error:
        tags["automl.error"] = trial.error[:500]
    if trial.state == State.STOPPED:
        tags["automl.stopped_at"] = str(trial.result["stopped_at"])
    if trial.of_trial is not None:
        tags["automl.repeats"] = str(trial.of_trial)
    return tags


def execution_params(trial: TrialRecord) -> dict[str, Any]:
    """On what and in which number format it was trained."""
    known = trial.result.get("execution", {})
    if_set = [name for name in ("micro_batch", "threads") if known.get(name)]
    shown = ["device", "dtype", "channels_last", *if_set]
    return {f"execution.{name}": known[name] for name in shown if name in known}


def trial_measures(trial: TrialRecord, points: list[PointRecord]) -> dict[str, float]:
    """How long it took, what it reached, and what it does at the setting it was trained for."""
    measures = {names.SECONDS: trial.seconds}
    if (chosen := shown_point(points, ())) is None:
        return measures
    own = names.validation(METRICS[chosen.metric].label)
    best = {names.best(own): max(p.accuracy for p in points)}
    return measures | best | point_measures(chosen)


def shown_point(
    points: Sequence[PointRecord], members: Sequence[PointRecord]
) -> PointRecord | None:
    """The setting at which a training is shown: its most accurate one on the front, else the one it was trained for."""
    ids = {p.id for p in members}
    on_front = [p for p in points if p.id in ids]
    if on_front:
        return max(on_front, key=lambda p: p.accuracy)
    return next((p for p in points if p.chosen), None)


def trial_artifacts(
    trial: TrialRecord, points: list[PointRecord], rates: list[tuple[int, dict[str, float]]]
) -> dict[str, bytes]:
    from search.report.gate_rates import gate_rates_png

    found = {}
    if points:
        found["operating_points.json"] = json.dumps(_shown(points), indent=1).encode()
    if rates and rates[-1][1]:
        names = list(rates[-1][1])
        by_gate = {name: [values.get(name, 0.0) for _, values in rates] for name in names}
        title = f"trial {trial.number}: gates of {network_text(trial.family, trial.params)}"
        found["gate_rates.png"] = gate_rates_png(title, [epoch for epoch, _ in rates], by_gate)
    try:
        return found | _kept_inspection_artifacts(trial, points, rates)
    # a picture that cannot be drawn must not keep this trial, or later ones, out of MLflow
    except Exception as error:
        logger.warning("no pictures of trial %d in MLflow: %s", trial.number, error)
        return found | {"inspect/error.txt": traceback.format_exc().encode()}


def _shown(points: list[PointRecord]) -> list[dict[str, Any]]:
    """The points as they are written for people and programs, without a bit for each image."""
    kept = [field.name for field in fields(PointRecord) if field.name not in APART]
    return [{name: getattr(p, name) for name in kept} for p in points]


def _kept_inspection_artifacts(
    trial: TrialRecord, points: list[PointRecord], rates: list[tuple[int, dict[str, float]]]
) -> dict[str, bytes]:
    """Pictures and page of what the network does at the point that it was trained for, if its worker measured that."""
    from search.inspection.measures import inspection_of

    found = inspection_of(trial.result.get("inspection"))
    chosen = next((p for p in points if p.chosen), None)
    if found is None or chosen is None:
        return {}
    return inspection_artifacts(trial, chosen, found, rates)


def inspection_artifacts(
    trial: TrialRecord,
    point: PointRecord,
    found: Inspection,
    rates: list[tuple[int, dict[str, float]]],
) -> dict[str, bytes]:
    """Pictures and page of what the training's network does at a point; `rates` are open rates of gates by epoch."""
    from search.inspection.page import inspection_html
    from search.inspection.pngs import inspection_pngs

    network = (
        f"{training_text(trial.kind, trial.number)}: {network_text(trial.family, trial.params)}, "
    )
    network += knobs_text(point.knobs)
    drawn = {f"inspect/{name}.png": png for name, png in inspection_pngs(found, network).items()}
    if not drawn:
        return {}
    return drawn | {"inspect/inspect.html": inspection_html(found, network, rates).encode()}
