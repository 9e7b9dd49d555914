"""Database errors, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.urls import sqlite_file, without_password

LOCKED = "database is locked"  # as SQLite says it
ADVICE = {
    LOCKED: "another process holds it; stop it, or use PostgreSQL for studies of several machines",
    "No space left": "free some space and run the same command again",
    "quota exceeded": "free some space and run the same command again",
    "Read-only file system": "let it be written and run the same command again",
    "disk is full": "free some space and run the same command again",
    "Permission denied": "check who may write the folder",
    "unable to open database file": "check that the folder exists and may be written",
    "readonly database": "check who may write the file and its folder",
    "not a database": "the file is damaged or something else; move it away",
    "malformed": "the file is damaged; restore a copy or move it away",
    "no such table": "tables are missing; restore a copy or move the file away",
    "disk I/O error": "check that the disk has space and works, and run the same command again",
    "connection": "check that the database server runs and can be reached",
    "locate credentials": "put the account into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "Access Denied": "let this account read, write, list and delete there",
    "bucket does not exist": "make it, or name another in storage.checkpoints",
    "endpoint URL": "check that it can be reached; AWS_ENDPOINT_URL names one that is not Amazon's",
    "password authentication": "check user and password in the URL",
}


class StorageError(RuntimeError):
    """The database cannot do what was asked; one line: which database, what happened, what to do."""


class LostConnectionError(StorageError):
    """The server of the database went away; what was asked may be asked again."""


class StudyExistsError(StorageError):
    """There is a study of this name; another process may just have made it."""


class TakenOverError(StorageError):
    """Another process drives the study now: this one may not write any more."""


class UnwrittenError(StorageError):
    """A file could not be written: no space, or no right to."""


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn every database error inside into a StorageError about the database at `url`."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError  # a trainer alone does without it

    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        kind = LostConnectionError if lost else StorageError
        place = sqlite_file(url) or without_password(url)
        raise kind(f"{place}: {error_line(error)}") from error


def error_line(error: Exception) -> str:
    """What an error says in one line, and what to do about it, as far as that is known."""
    cause = getattr(error, "orig", None) or error  # the driver's own, of what SQLAlchemy raises
    first = without_password((str(cause).strip() or type(cause).__name__).splitlines()[0])
    advice = next((what for sign, what in ADVICE.items() if sign in first), None)
    return f"{first}; {advice}" if advice else first
