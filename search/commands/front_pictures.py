"""Pictures of what networks on the front do, in MLflow: each at its point there, which its run's measures show too.

A training measures its pictures at its end, when nobody knows yet which of its points will be on the front.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator

from search.commands.measured import measured
from search.front.stored import study_front
from search.inspection.forward_pass import QUICK
from search.inspection.measures import Inspection, inspection_of
from search.run.features import feature_store
from search.run.trial_run import inspection_artifacts, shown_point
from storage.mlflow_log import MlflowLog
from storage.records import Kind, PointRecord, StudyRecord, TrialRecord
from storage.settings import Settings
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")
FOLDER = "inspect"  # of a run's artifacts


def show_front_pictures(
    store: Store, settings: Settings, record: StudyRecord, say: Callable[[str], None]
) -> int:
    """Draw again what is of another point than the one that its run shows; returns how many runs.

    A network whose checkpoint is gone keeps its pictures. Raises StorageError where MLflow is away.
    """
    if record.experiment_id is None:
        return 0
    log = MlflowLog(settings)
    drawn = log.inspected_points(record.experiment_id, record.name)
    outdated = [
        (trial, point)
        for trial, trained_for, point in _shown(store, record, drawn)
        if drawn.get(str(trial.run_id), trained_for) != point.id
    ]
    if outdated:
        networks = "1 network does" if len(outdated) == 1 else f"{len(outdated)} networks do"
        say(f"drawing what {networks} at the point that MLflow shows")
    return sum(_draw(store, settings, record, log, *one) for one in outdated)


def _draw(
    store: Store,
    settings: Settings,
    record: StudyRecord,
    log: MlflowLog,
    trial: TrialRecord,
    point: PointRecord,
) -> bool:
    """Draw a training's pictures at this point; whether that could be done."""
    try:
        found = _inspection(store, settings, record, trial, point)
        rates = [
            (e.epoch, e.gate_rates) for e in store.epochs(record.name, trial.kind, trial.number)
        ]
        files = inspection_artifacts(trial, point, found, rates) if found else {}
    # a picture that cannot be drawn must not end a search that went well
    except Exception as error:
        logger.warning("no pictures of point %s in MLflow: %s", point.id, error)
        return False
    if files:
        log.replace_pictures(str(trial.run_id), FOLDER, files, point.id)
    return bool(files)


def _shown(
    store: Store, record: StudyRecord, drawn: Container[str | None]
) -> Iterator[tuple[TrialRecord, int | None, PointRecord]]:
    """(training, the point that it was trained for, the point that its run shows) of those where these may differ.

    They are on the front, or their run is among those that were `drawn` again.
    """
    members = study_front(store, record).members
    on_front = {p.training for p in members}
    for trial in store.trials(record.name, results=False):
        if trial.kind == Kind.CASCADE:  # its members have pictures of their own
            continue
        if trial.run_id in drawn or (trial.run_id and (trial.kind, trial.number) in on_front):
            own = store.points(record.name, trial.kind, trial.number)
            if (point := shown_point(own, members)) is not None:
                yield trial, next((p.id for p in own if p.chosen), None), point


def _inspection(
    store: Store, settings: Settings, record: StudyRecord, trial: TrialRecord, point: PointRecord
) -> Inspection | None:
    """At this point: as the training kept it, or measured now. Raises ValueError where its checkpoint is gone."""
    if point.chosen:
        whole = store.trial(record.name, trial.kind, trial.number)
        return inspection_of(whole.result.get("inspection"))
    return measured(store, record, settings, point, logger.debug, QUICK, feature_store(settings))
