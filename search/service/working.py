"""What pages ask for and a server must not wait for: python -m search.service.working WHAT ... RESULT."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from storage.mlflow_server import SETTINGS_VARIABLE
from storage.settings import Settings
from storage.store import Store

NICE = 5  # a search on the same machine goes first
INSPECT, WHY = "inspect", "why"


def main(what: str, study: str, *rest: str) -> None:
    """Do it; the result appears when all of it is there. Raises ValueError and StorageError."""
    with suppress(AttributeError, OSError):  # Windows has no nice
        os.nice(NICE)
    settings = Settings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    store = Store.open(settings.database_url)
    if what == INSPECT:
        inspect(store, settings, study, int(rest[0]), Path(rest[1]))
    else:
        importance(store, study, Path(rest[0]))


def inspect(store: Store, settings: Settings, study: str, point: int, folder: Path) -> None:
    """Write what `dynafront inspect` writes of the point into the folder."""
    from search.commands.inspect import inspect_point

    found = next((p for p in store.points(study) if p.id == point), None)
    if found is None:
        raise ValueError(f"study {study} has no point {point} any more")
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        inspect_point(store, store.study(study), settings, found, unfinished, lambda line: None)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def importance(store: Store, study: str, file: Path) -> None:
    """Write the importance of the study's dimensions into the file."""
    from search.front.stored import study_front
    from search.service.importance import importances

    record = store.study(study)
    found = importances(store, record, study_front(store, record))
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(found), encoding="utf-8")
    unfinished.replace(file)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # the page shows the last line
        sys.exit(str(error) or type(error).__name__)
