"""Deleting a study's runs from MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.mlflow_client import asking, client
from storage.mlflow_log import STUDY
from storage.mlflow_runs import MlflowRuns
from storage.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DELETED = "automl.deleted_study"  # what a deleted run says in place of STUDY: a new study of the name is another


def delete_runs(settings: Settings, study: str) -> int:
    """Delete all runs of a study; returns how many. MLflow keeps deleted runs until `mlflow gc`.

    Registered models stay. Raises StorageError when MLflow is not there.
    """
    log = client(settings)
    with asking(settings):
        experiment = log.get_experiment_by_name(settings.experiment_name(study))
        if experiment is None:
            return 0
        found = list(MlflowRuns(log, settings).all_runs(experiment.experiment_id, {STUDY: study}))
        for run in found:
            if run.info.lifecycle_stage != "active":
                log.restore_run(run.info.run_id)  # a deleted run takes no tag
            log.set_tag(run.info.run_id, DELETED, study)
            log.delete_tag(run.info.run_id, STUDY)
            log.delete_run(run.info.run_id)
        if "{study}" in settings.experiment and not log.search_runs(
            [experiment.experiment_id], max_results=1
        ):
            _delete_experiment(log, experiment)
    return len(found)


def _delete_experiment(log: MlflowClient, experiment: Experiment) -> None:
    """Delete an experiment under another name: whoever restores it by its own would restore its runs too."""
    if experiment.lifecycle_stage == "active":
        number = experiment.experiment_id
        log.rename_experiment(number, f"{experiment.name} (deleted {number})")
        log.delete_experiment(number)
