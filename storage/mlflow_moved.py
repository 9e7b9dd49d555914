"""MLflow's SQLite file after its folder was moved or copied: its addresses of files follow.

MLflow writes whole paths, and changes none of them. Without this a copy would go on writing into the original's files.
"""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import unquote, urlparse

from sqlalchemy import Connection, Engine, TableClause, column, create_engine, select, table, update

from storage.settings import Settings
from storage.urls import sqlite_file

logger = logging.getLogger(f"dynafront.{__name__}")

# of MLflow: where an address of files stands, and what says to which row it belongs
EXPERIMENTS = table("experiments", column("experiment_id"), column("artifact_location"))
RUNS = table("runs", column("run_uuid"), column("artifact_uri"))
MODELS = table("logged_models", column("model_id"), column("artifact_location"))
VERSIONS = table("model_versions", column("storage_location"))
ADDRESSES = (
    (RUNS, "run_uuid", "artifact_uri"),
    (MODELS, "model_id", "artifact_location"),
    (VERSIONS, "storage_location", "storage_location"),
)


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
        _rewrite(engine, experiment_id, old, new)
    finally:
        engine.dispose()
    return True


def _moved(settings: Settings, old: str, new: str) -> bool:
    file = sqlite_file(settings.tracking_uri)
    if file is None or not old.startswith("file:") or not new.startswith("file:"):
        return False
    ours = file.resolve().is_relative_to(settings.folder.resolve())
    return ours or not _path(old).exists()


def _rewrite(engine: Engine, experiment_id: str, old: str, new: str) -> None:
    own = EXPERIMENTS.c.experiment_id == int(experiment_id)
    with engine.begin() as connection:
        connection.execute(update(EXPERIMENTS).where(own).values(artifact_location=new))
        for rows, key, address in ADDRESSES:
            _follow_in(connection, rows, key, address, f"{old}/", f"{new}/")


def _follow_in(
    connection: Connection, rows: TableClause, key: str, address: str, old: str, new: str
) -> None:
    for name, stored in connection.execute(select(rows.c[key], rows.c[address])).all():
        if not stored or not stored.startswith(old):
            continue
        there = new + stored.removeprefix(old)
        if _path(there).exists() or not _path(stored).exists():
            connection.execute(update(rows).where(rows.c[key] == name).values({address: there}))


def _path(uri: str) -> Path:
    return Path(unquote(urlparse(uri).path))
