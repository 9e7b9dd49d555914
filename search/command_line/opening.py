"""What commands open: the settings, the store, a study by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from storage.kept_files import KeptFiles
    from storage.records import StudyRecord
    from storage.settings import Settings
    from storage.store import Store


def send_nothing() -> None:
    """Before mlflow or optuna is imported anywhere: nothing of a user's machine is sent anywhere."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def read_settings(config: Path | None) -> Settings:
    """The settings of a file, or of ./mlflow.yml where there is one. Raises ValueError."""
    send_nothing()
    from storage.settings import settings

    return settings(config)


def open_store(settings: Settings) -> Store:
    """The store that the settings name, made where there is none. Raises StorageError."""
    from storage.store import Store

    settings.folder.mkdir(parents=True, exist_ok=True)
    return Store.open(settings.database_url, lambda line: click.echo(line, err=True))


def kept_files(settings: Settings) -> KeptFiles:
    """The checkpoints of this machine, and of the store that the settings name."""
    from storage.kept_files import checkpoint_store

    return checkpoint_store(settings.checkpoints, settings.store)


def open_study(settings: Settings, name: str) -> tuple[Store, StudyRecord]:
    """The store and a study by name. Raises ValueError naming the known ones."""
    from spaces.contract.space import nearest

    store = open_store(settings)
    record = store.find_study(name)
    if record is None:
        known = [study.name for study in store.studies()]
        hint = nearest(name, known) if known else "; launch one with dynafront search FILE"
        raise ValueError(f"there is no study {name} in {settings.folder}{hint}")
    return store, record
