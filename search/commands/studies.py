"""All studies at a glance: how far, how good, how large."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.commands.disk_use import disk_use
from search.commands.status import status
from search.front.stored import study_front
from search.report.amounts import file_size, percent
from storage.kept_files import KeptFiles
from storage.records import StudyRecord
from storage.store import Store

COLUMNS = ("study", "state", "trials", "best", "front", "checkpoints", "last change")


def studies(store: Store, folder: Path, files: KeptFiles) -> list[dict[str, Any]]:
    """One entry a study, the oldest first."""
    return [_entry(store, record, folder, files) for record in store.studies()]


def print_studies(console: Console, entries: list[dict[str, Any]]) -> None:
    """A table for people."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for one in entries:
        best = one["best_accuracy"]
        cells = (
            one["study"],
            one["state"].partition(";")[0],
            f"{one['trials']} of {one['budget']}",
            "-" if best is None else percent(best),
            str(one["points"]),
            _disk(one),
            f"{datetime.fromisoformat(one['changed']).astimezone():%Y-%m-%d %H:%M}",
        )
        table.add_row(*map(Text, cells))
    console.print(table)


def _disk(one: dict[str, Any]) -> str:
    here = file_size(one["checkpoint_bytes"])
    if "stored_bytes" not in one:
        return here
    stored = one["stored_bytes"]
    return f"{here}, stored: {'unknown' if stored is None else file_size(stored)}"


def _entry(store: Store, record: StudyRecord, folder: Path, files: KeptFiles) -> dict[str, Any]:
    front = study_front(store, record)
    found, members = status(store, record, front, folder), front.members
    trials, by_state = store.trials(record.name), found["trials"]["by_state"]
    times = [time for one in trials for time in (one.started_at, one.finished_at) if time]
    return {
        "study": record.name,
        "state": found["state"],
        "trials": sum(by_state.get(state, 0) for state in ("complete", "stopped", "failed")),
        "budget": found["trials"]["budget"],
        "best_accuracy": max((p.accuracy for p in members), default=None),
        "points": len(members),
        **disk_use(files, record.name).as_dict(),
        "created": record.created_at.isoformat(),
        "changed": max(times, default=record.created_at).isoformat(),
    }
