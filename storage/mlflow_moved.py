"""MLflow's SQLite file after its folder was moved or copied: its addresses of files follow.

MLflow writes whole paths, and changes none of them. Without this a copy would go on writing into the original's files.
"""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import unquote, urlparse

from sqlalchemy import (
    Connection,
    Engine,
    TableClause,
    column,
    create_engine,
    select,
    table,
    update,
)

from storage.settings import Settings
from storage.urls import sqlite_file

logger = logging.getLogger(f"dynafront.{__name__}")

# MLflow's tables as far as addresses of files stand in them
EXPERIMENTS = table("experiments", column("experiment_id"), column("artifact_location"))
RUNS = table("runs", column("experiment_id"), column("artifact_uri"))
MODELS = table("logged_models", column("experiment_id"), column("artifact_location"))
VERSIONS = table("model_versions", column("storage_location"))
# parts of an address below its experiment's
OF_RUN, OF_MODEL = 2, 3  # RUN/artifacts, models/MODEL/artifacts


def follow(settings: Settings, experiment_id: str, old: str, new: str) -> bool:
    """Let an experiment's files be at `new`, where they were at `old`; returns whether that was so.

    Of its runs and models those that lie there now, and those that are nowhere. Nothing happens for a store that
    others may use as well: a server, another database than SQLite, a file outside the data folder whose files at
    `old` still exist.
    """
    if not _moved(settings, old, new):
        return False
    logger.info("files of MLflow experiment %s: %s instead of %s", experiment_id, new, old)
    engine = create_engine(settings.tracking_uri)
    try:
        _rewrite(engine, experiment_id, new)
    finally:
        engine.dispose()
    return True


def _moved(settings: Settings, old: str, new: str) -> bool:
    file = sqlite_file(settings.tracking_uri)
    if file is None or not old.startswith("file:") or not new.startswith("file:"):
        return False
    ours = file.resolve().is_relative_to(settings.folder.resolve())
    return ours or not _path(old).exists()


def _rewrite(engine: Engine, experiment_id: str, new: str) -> None:
    number = int(experiment_id)
    with engine.begin() as connection:
        own = update(EXPERIMENTS).where(EXPERIMENTS.c.experiment_id == number)
        connection.execute(own.values(artifact_location=new))
        for rows, name, parts in (
            (RUNS, "artifact_uri", OF_RUN),
            (MODELS, "artifact_location", OF_MODEL),
        ):
            known = select(rows.c[name]).where(rows.c.experiment_id == number)
            for stored in connection.scalars(known).all():
                there = _below(new, stored, parts)
                if _path(there).exists() or not _path(stored).exists():
                    _replace(connection, rows, name, stored, there)
        # versions do not say which experiment they are of
        for stored in connection.scalars(select(VERSIONS.c.storage_location)).all():
            there = _below(new, stored or "", OF_MODEL)
            if stored and _path(there).exists():
                _replace(connection, VERSIONS, "storage_location", stored, there)


def _replace(connection: Connection, rows: TableClause, name: str, stored: str, there: str) -> None:
    connection.execute(update(rows).where(rows.c[name] == stored).values({name: there}))


def _below(new: str, stored: str, parts: int) -> str:
    return "/".join([new, *stored.split("/")[-parts:]])


def _path(uri: str) -> Path:
    return Path(unquote(urlparse(uri).path))
