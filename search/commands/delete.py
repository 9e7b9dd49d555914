"""Deleting a study: its checkpoints, Optuna's study, MLflow's runs where asked for, and at last its tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from search.commands.disk_use import disk_use
from search.run.lease import lease
from storage.checkpoint_files import remove_study
from storage.kept_files import checkpoint_store
from storage.places import page_files
from storage.records import StudyRecord
from storage.settings import Settings
from storage.store import Store


def what_goes(store: Store, record: StudyRecord, settings: Settings, *, mlflow: bool) -> str:
    """What a deletion takes away, in words, for a person to agree to."""
    count = len(store.trials(record.name))
    disk = disk_use(checkpoint_store(settings.checkpoints, settings.store), record.name)
    runs = " and its runs in MLflow" if mlflow else ""
    return f"{record.name}: {count} trainings, {disk.text()}{runs}"


def delete_study(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    *,
    mlflow: bool,
    say: Callable[[str], None],
) -> list[str]:
    """Delete a study; returns lines that say what went. Raises ValueError where a process searches it, StorageError
    where the store of checkpoints is away.

    The tables go last: a deletion that was interrupted is finished by the same command.
    """
    name, lines = record.name, []
    files = checkpoint_store(settings.checkpoints, settings.store)
    with lease(store, name):
        disk = disk_use(files, name)
        if files.remote is not None:
            files.remote.remove(name)
        if mlflow:
            say("deleting the runs in MLflow")
            from storage.mlflow_deletion import delete_runs

            count = delete_runs(settings, name)
            lines.append(f"{count} runs in MLflow; `mlflow gc` deletes their files")
        say("deleting Optuna's study")
        from search.run.optuna_mirror import delete_mirror

        delete_mirror(settings.optuna_url, name)
        remove_study(settings.checkpoints, name)
        shutil.rmtree(page_files(record, settings.folder), ignore_errors=True)
        (settings.folder / f"{name}-left-out.txt").unlink(missing_ok=True)
        lines.append(disk.text())
    store.delete_study(name)
    return [f"deleted {name}:", *(f"  {line}" for line in lines)]
