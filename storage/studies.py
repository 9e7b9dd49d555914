"""Studies and their leases: who drives a study, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from storage.database import Database
from storage.errors import StorageError, StudyExistsError
from storage.fence import ASKED_TO_STOP, Fence, held_by
from storage.records import StudyRecord
from storage.repeated import repeated
from storage.rows import record, utc_now
from storage.tables import POINTS, STUDIES, STUDY_DATA, TIMINGS, TRIALS


class Studies:
    """The table of studies."""

    _database: Database

    def add_study(
        self, name: str, spec: Mapping[str, Any], text: str, reference: Mapping[str, Any]
    ) -> StudyRecord:
        """Raises StudyExistsError."""
        values = {
            "name": name,
            "spec": dict(spec),
            "text": text,
            "reference": dict(reference),
            "seconds_spent": 0.0,
            "created_at": utc_now(),
        }
        with self._database.writing() as connection:
            try:
                connection.execute(insert(STUDIES).values(values))
            except IntegrityError:
                # maybe since a moment: asking first would leave room for another process
                raise StudyExistsError(
                    f"study {name!r} exists already; give the new one another name"
                ) from None
            return record(StudyRecord, connection.execute(self._named(name)).one())

    def study(self, name: str) -> StudyRecord:
        """Raises StorageError when there is none."""
        study = self.find_study(name)
        if study is None:
            raise StorageError(f"there is no study {name!r}")
        return study

    def find_study(self, name: str) -> StudyRecord | None:
        rows = self._database.rows(self._named(name))
        return record(StudyRecord, rows[0]) if rows else None

    def studies(self) -> list[StudyRecord]:
        """All studies, the oldest first."""
        rows = self._database.rows(self._all().order_by(STUDIES.c.created_at))
        return [record(StudyRecord, row) for row in rows]

    def delete_study(self, name: str) -> None:
        """Delete a study and all that belongs to it. Raises StorageError for one that a process drives."""
        free = or_(STUDIES.c.owner.is_(None), STUDIES.c.lease_until < self._database.now())
        with self._database.writing() as connection:
            if not connection.execute(delete(STUDIES).where(STUDIES.c.name == name, free)).rowcount:
                raise StorageError(
                    f"study {name!r} is not there, or was just taken up by another process"
                )

    def take_lease(self, name: str, owner: str, seconds: float, *, expired: bool = True) -> bool:
        """Become the one who drives the study; False while somebody else's lease lasts.

        Leases count by the database's clock, where it has one. Without `expired`, one that is over by the clock lasts
        too, until it is released.
        """
        now = self._database.now()
        over = (STUDIES.c.lease_until < now,) if expired else ()
        free = or_(STUDIES.c.owner.is_(None), STUDIES.c.owner == owner, *over)
        return self._set_lease(name, {"owner": owner, "lease_until": now + seconds}, free)

    def renew_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Keep driving; False if the lease ran out and somebody else has taken it."""
        return self._set_lease(
            name, {"lease_until": self._database.now() + seconds}, held_by(owner)
        )

    def release_lease(self, name: str, owner: str) -> None:
        self._set_lease(name, {"owner": None, "lease_until": None}, held_by(owner))

    @property
    def fence(self) -> Fence | None:
        """What lets this store write: it raises TakenOverError once another process drives that study."""
        return self._database.fence

    @fence.setter
    def fence(self, fence: Fence | None) -> None:
        self._database.fence = fence

    @property
    def is_taken_over(self) -> bool:
        """Whether this store may not write any more."""
        if (fence := self._database.fence) is None:
            return False
        held = select(STUDIES.c.name).where(STUDIES.c.name == fence.study, held_by(fence.owner))
        return not self._database.rows(held)

    def ask_to_stop(self, name: str) -> bool:
        """Ask who drives the study, on whichever machine, to stop; False where nobody does."""
        driven = (STUDIES.c.owner.is_not(None), STUDIES.c.lease_until >= self._database.now())
        asked = STUDIES.c.owner.endswith(ASKED_TO_STOP)
        return self._set_lease(
            name,
            {"owner": case((asked, STUDIES.c.owner), else_=STUDIES.c.owner + ASKED_TO_STOP)},
            *driven,
        )

    def is_asked_to_stop(self, name: str, owner: str) -> bool:
        """Whether somebody asked this driver of the study to stop."""
        record = self.find_study(name)
        return record is not None and record.owner == owner + ASKED_TO_STOP

    def add_seconds(self, name: str, seconds: float) -> None:
        """Count more time as spent on the study."""
        self._set_study(name, {"seconds_spent": STUDIES.c.seconds_spent + seconds})

    def set_spec(self, name: str, spec: Mapping[str, Any], text: str) -> None:
        """Replace the study's checked file and its text, for what may change in a study that exists."""
        self._set_study(name, {"spec": dict(spec), "text": text})

    @repeated
    def set_data(self, name: str, data: Mapping[str, Any]) -> None:
        """Remember what tells the study's images from changed ones."""
        with self._database.writing() as connection:
            connection.execute(delete(STUDY_DATA).where(STUDY_DATA.c.study == name))
            connection.execute(insert(STUDY_DATA).values(study=name, data=dict(data)))

    def data(self, name: str) -> dict[str, Any]:
        """What tells the study's images from changed ones; empty for a study from before that was kept."""
        rows = self._database.rows(select(STUDY_DATA.c.data).where(STUDY_DATA.c.study == name))
        return dict(rows[0].data) if rows else {}

    def set_study_run(self, name: str, experiment_id: str | None, run_id: str | None) -> None:
        """Remember the study's MLflow experiment and parent run."""
        self._set_study(name, {"experiment_id": experiment_id, "run_id": run_id})

    @repeated
    def stamp(self, name: str) -> str:
        """A short text that differs whenever a trial, its points, its MLflow run or the study's file changed."""
        counted = select(
            func.count(),
            func.max(TRIALS.c.finished_at),
            func.sum(TRIALS.c.seconds),
            func.count(TRIALS.c.run_id),
        ).where(TRIALS.c.study == name)
        states = (
            select(TRIALS.c.state, func.count())
            .where(TRIALS.c.study == name)
            .group_by(TRIALS.c.state)
        )
        newest = select(func.max(POINTS.c.id)).join(TRIALS, TRIALS.c.id == POINTS.c.trial_id)
        timed = select(func.count(), func.sum(TIMINGS.c.measured_ms)).select_from(TIMINGS)
        timed = timed.join(POINTS, POINTS.c.id == TIMINGS.c.point_id)
        timed = timed.join(TRIALS, TRIALS.c.id == POINTS.c.trial_id)
        with self._database.reading() as connection:
            seen = (
                connection.scalar(select(STUDIES.c.spec).where(STUDIES.c.name == name)),
                tuple(connection.execute(counted).one()),
                sorted(map(tuple, connection.execute(states))),
                connection.scalar(newest.where(TRIALS.c.study == name)),
                tuple(connection.execute(timed.where(TRIALS.c.study == name)).one()),
            )
        return sha256(repr(seen).encode()).hexdigest()[:16]

    @property
    def has_clock(self) -> bool:
        """Whether leases count by a clock that all machines share."""
        return self._database.has_clock

    def _all(self) -> Select[Any]:
        left = (STUDIES.c.lease_until - self._database.now()).label("lease_left")
        return select(STUDIES, left)

    def _named(self, name: str) -> Select[Any]:
        return self._all().where(STUDIES.c.name == name)

    @repeated
    def _set_study(self, name: str, values: dict[str, Any]) -> None:
        fence = self._database.fence
        # a condition, for to keep the row and then change it is how two of them would wait for each other
        conditions = () if fence is None or fence.study != name else (held_by(fence.owner),)
        with self._database.writing(fenced=False) as connection:
            if not _changed(connection, name, values, *conditions):
                assert fence is not None
                raise fence.broken()

    @repeated
    def _set_lease(self, name: str, values: dict[str, Any], *conditions: Any) -> bool:
        """Change a study's lease where the conditions hold; returns whether they did."""
        with self._database.writing(fenced=False) as connection:
            return _changed(connection, name, values, *conditions)


def _changed(connection: Connection, name: str, values: dict[str, Any], *conditions: Any) -> bool:
    change = update(STUDIES).where(STUDIES.c.name == name, *conditions).values(values)
    if connection.execute(change).rowcount:
        return True
    if connection.scalar(select(STUDIES.c.name).where(STUDIES.c.name == name)) is None:
        raise StorageError(f"there is no study {name!r}")
    return False
