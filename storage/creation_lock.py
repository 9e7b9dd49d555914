"""One process at a time where a database is created or migrated.

Alembic does not guard against a second process: of four that opened a fresh database together, three crashed
inside MLflow's migrations, two inside Optuna's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import create_engine, text

from storage.errors import StorageError, told
from storage.urls import sqlite_file

PATIENCE = 180.0  # seconds; the first migration of an MLflow database takes 5, a starting server holds on for 20
ADVISORY_LOCK = 0x64796E61  # any number that no other program on the same PostgreSQL uses


@contextmanager
def creating(url: str) -> Iterator[None]:
    """Hold the right to create or migrate the database at `url`; its folder exists afterwards.

    A lock file beside a SQLite file, an advisory lock on PostgreSQL, nothing for any other URL. Not to be
    nested for one URL. Raises StorageError.
    """
    file = sqlite_file(url)
    if file is not None:
        # every command opens a database, and few make one
        from filelock import FileLock, Timeout

        lock = FileLock(f"{file}.lock", timeout=PATIENCE)
        with told(url):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise StorageError(
                    f"{file}: another process has been creating it for {PATIENCE:.0f} s"
                ) from None
        try:
            yield
        finally:
            lock.release()
        return
    with _advisory_lock(url) if url.startswith("postgresql") else nullcontext():
        yield


@contextmanager
def _advisory_lock(url: str) -> Iterator[None]:
    engine = create_engine(url)
    try:
        with told(url):
            connection = engine.connect()
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.close()  # the lock ends with its session, which a pool would keep
    finally:
        engine.dispose()
