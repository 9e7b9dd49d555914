"""Deleting a study: its checkpoints, Optuna's study, MLflow's runs where asked for, and at last its tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from search.report.amounts import file_size
from search.run.lease import lease
from storage.checkpoint_files import bytes_of, remove_study, study_files
from storage.places import page_files
from storage.records import StudyRecord
from storage.settings import Settings
from storage.store import Store


def what_goes(store: Store, record: StudyRecord, settings: Settings, *, mlflow: bool) -> str:
    """What a deletion takes away, in words, for a person to agree to."""
    count = len(store.trials(record.name))
    size = file_size(bytes_of(study_files(settings.checkpoints, record.name)))
    runs = " and its runs in MLflow" if mlflow else ""
    return f"{record.name}: {count} trainings, {size} of checkpoints{runs}"


def delete_study(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    *,
    mlflow: bool,
    say: Callable[[str], None],
) -> list[str]:
    """Delete a study; returns lines that say what went. Raises ValueError where a process searches it.

    The tables go last: a deletion that was interrupted is finished by the same command.
    """
    name, lines = record.name, []
    with lease(store, name):
        if mlflow:
            say("deleting the runs in MLflow")
            from storage.mlflow_deletion import delete_runs

            count = delete_runs(settings, name)
            lines.append(f"{count} runs in MLflow; `mlflow gc` deletes their files")
        say("deleting Optuna's study")
        from search.run.optuna_mirror import delete_mirror

        delete_mirror(settings.optuna_url, name)
        freed = remove_study(settings.checkpoints, name)
        shutil.rmtree(page_files(record, settings.folder), ignore_errors=True)
        (settings.folder / f"{name}-left-out.txt").unlink(missing_ok=True)
        lines.append(f"{file_size(freed)} of checkpoints")
    store.delete_study(name)
    return [f"deleted {name}:", *(f"  {line}" for line in lines)]
