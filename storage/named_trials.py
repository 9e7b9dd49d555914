"""Rows of the table of trials, found by study, kind and number."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from storage.errors import StorageError
from storage.records import Kind, training_text
from storage.tables import TRIALS

# the conditions with parameters: statements of a driver are built once, for to build one takes as long as to run it
NAMED = (
    TRIALS.c.study == bindparam("study"),
    TRIALS.c.kind == bindparam("kind"),
    TRIALS.c.number == bindparam("number"),
)
ID = select(TRIALS.c.id).where(*NAMED)
CHANGE = update(TRIALS).where(TRIALS.c.id == bindparam("own"))


def is_trial(study: str, kind: Kind, number: int) -> tuple[Any, ...]:
    """The conditions that pick one row of the table of trials."""
    return TRIALS.c.study == study, TRIALS.c.kind == kind, TRIALS.c.number == number


def trial_id(connection: Connection, study: str, kind: Kind, number: int) -> int:
    """Raises StorageError when there is no such trial."""
    found = connection.scalar(ID, {"study": study, "kind": kind, "number": number})
    if found is None:
        raise no_such_trial(study, kind, number)
    return int(found)


def no_such_trial(study: str, kind: Kind, number: int) -> StorageError:
    return StorageError(f"study {study!r} has no {training_text(kind, number)}")
