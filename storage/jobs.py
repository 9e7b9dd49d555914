"""Jobs: commands that were asked for from a page, in the order of asking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from storage.database import Database
from storage.records import JobRecord, JobState
from storage.rows import record, utc_now
from storage.tables import JOBS

ENUMS = {"state": JobState}
OPEN = (JobState.QUEUED, JobState.RUNNING)
COUNTING = 0x64796E6A  # an advisory lock that no other program on the same PostgreSQL uses


class Jobs:
    """The table of jobs. A change holds only in the state that it starts from: the second one changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, kind: str, study: str, arguments: Sequence[str], *, host: str, folder: str, most: int
    ) -> JobRecord | None:
        """A new job, which waits; None where `most` are open on this host."""
        values = {
            "kind": kind,
            "study": study,
            "arguments": list(arguments),
            "state": JobState.QUEUED,
            "host": host,
            "folder": folder,
            "result": {},
            "created_at": utc_now(),
        }
        with self._database.writing() as connection:
            if _count(connection, JOBS.c.state.in_(OPEN), JOBS.c.host == host) >= most:
                return None
            key = connection.scalar(insert(JOBS).values(values).returning(JOBS.c.id))
            row = connection.execute(select(JOBS).where(JOBS.c.id == key)).one()
        return record(JobRecord, row, ENUMS)

    def job(self, job: int) -> JobRecord | None:
        rows = self._database.rows(select(JOBS).where(JOBS.c.id == job))
        return record(JobRecord, rows[0], ENUMS) if rows else None

    def jobs(self, study: str | None = None, *, most: int = 50) -> list[JobRecord]:
        """The newest, of one study or of all, the newest first."""
        query = select(JOBS).order_by(JOBS.c.id.desc()).limit(most)
        if study is not None:
            query = query.where(JOBS.c.study == study)
        return [record(JobRecord, row, ENUMS) for row in self._database.rows(query)]

    def open_jobs(self, study: str | None = None) -> list[JobRecord]:
        """All that wait or run, in order."""
        query = select(JOBS).where(JOBS.c.state.in_(OPEN)).order_by(JOBS.c.id)
        if study is not None:
            query = query.where(JOBS.c.study == study)
        return [record(JobRecord, row, ENUMS) for row in self._database.rows(query)]

    def take(self, job: JobRecord, kinds: Collection[str], most: int) -> bool:
        """Make a waiting job a running one; False where it waits no more, or `most` of these kinds run on its host."""
        running = JOBS.c.state == JobState.RUNNING, JOBS.c.host == job.host, JOBS.c.kind.in_(kinds)
        values = {
            "state": JobState.RUNNING,
            "started_at": utc_now(),
            "seen_at": self._database.now(),
        }
        with self._database.writing() as connection:
            if _count(connection, *running) >= most:
                return False
            change = update(JOBS).where(JOBS.c.id == job.id, JOBS.c.state == JobState.QUEUED)
            return connection.execute(change.values(values)).rowcount > 0

    def begin(self, job: int, pid: int) -> bool:
        """The process of a running job has begun; False where the job has ended meanwhile."""
        return self._change(job, {"pid": pid, "seen_at": self._database.now()}, _RUNNING)

    def beat(self, job: int) -> None:
        """The job's process lives."""
        self._change(job, {"seen_at": self._database.now()}, _RUNNING)

    def silence(self, job: int) -> float:
        """Seconds since the job's process showed that it lives, by the clock of the database's server."""
        silent = select(self._database.now() - func.coalesce(JOBS.c.seen_at, 0.0))
        rows = self._database.rows(silent.where(JOBS.c.id == job))
        return float(rows[0][0]) if rows else 0.0

    def finish(
        self,
        job: int,
        state: JobState,
        *,
        error: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> bool:
        """End an open job; False where it has ended before."""
        values = {
            "state": state,
            "error": error,
            "result": dict(result or {}),
            "finished_at": utc_now(),
        }
        return self._change(job, values, JOBS.c.state.in_(OPEN))

    def cancel_waiting(self, job: int) -> bool:
        """End a job that has not begun; False where it has."""
        values = {"state": JobState.CANCELLED, "finished_at": utc_now()}
        return self._change(job, values, JOBS.c.state == JobState.QUEUED)

    def forget(self, kept: int) -> list[JobRecord]:
        """Take away the oldest jobs that have ended, all but `kept` jobs; returns them."""
        query = select(JOBS).order_by(JOBS.c.id.desc()).offset(kept)
        with self._database.writing() as connection:
            old = [record(JobRecord, row, ENUMS) for row in connection.execute(query)]
            old = [job for job in old if job.state not in OPEN]
            connection.execute(delete(JOBS).where(JOBS.c.id.in_([job.id for job in old])))
        return old

    def _change(self, job: int, values: Mapping[str, Any], condition: ColumnElement[bool]) -> bool:
        with self._database.writing() as connection:
            change = update(JOBS).where(JOBS.c.id == job, condition).values(**values)
            return connection.execute(change).rowcount > 0


def _count(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """How many jobs; no other process counts until this transaction ends, or two would take the last place."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(select(func.pg_advisory_xact_lock(COUNTING)))
    return connection.scalar(select(func.count()).select_from(JOBS).where(*conditions)) or 0


_RUNNING = JOBS.c.state == JobState.RUNNING
