"""The store of studies: what every command reads and the driver of a study writes.

One Store serves any number of threads. Each method is one transaction; what fails leaves as a StorageError.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, or_, select, update

from storage.database import Database
from storage.errors import StorageError
from storage.records import (
    EpochRecord,
    ExportRecord,
    FailureRecord,
    Kind,
    OperatingPoint,
    PointRecord,
    RungRecord,
    State,
    StudyRecord,
    TrialRecord,
    training_text,
)
from storage.rows import point_record, point_row, record
from storage.tables import Epoch, Export, Failure, Point, Rung, Study, StudyData, Trial

WITH_POINTS = (State.COMPLETE, State.STOPPED)


class Store:
    """Studies, trials, epochs, rungs, operating points, failures, exports and leases in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Store:
        """The store at a database URL, its tables brought up to date. Raises ValueError and StorageError."""
        return cls(Database.open(url))

    def close(self) -> None:
        self._database.close()

    def add_study(
        self, name: str, spec: Mapping[str, Any], text: str, reference: Mapping[str, Any]
    ) -> StudyRecord:
        values = {"name": name, "spec": dict(spec), "text": text, "reference": dict(reference)}
        with self._database.writing() as connection:
            if connection.scalar(select(Study.name).where(Study.name == name)):
                raise StorageError(f"study {name!r} exists already; give the new one another name")
            connection.execute(insert(Study).values(**values, seconds_spent=0.0, created_at=_now()))
            return record(StudyRecord, connection.execute(_study(name)).one())

    def study(self, name: str) -> StudyRecord:
        """Raises StorageError when there is none."""
        found = self.find_study(name)
        if found is None:
            raise StorageError(f"there is no study {name!r}")
        return found

    def find_study(self, name: str) -> StudyRecord | None:
        rows = self._database.rows(_study(name))
        return record(StudyRecord, rows[0]) if rows else None

    def studies(self) -> list[StudyRecord]:
        """All studies, the oldest first."""
        return [
            record(StudyRecord, row)
            for row in self._database.rows(select(Study.__table__).order_by(Study.created_at))
        ]

    def take_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Become the one who drives the study; False while somebody else's lease lasts."""
        now = time.time()
        free = or_(Study.owner.is_(None), Study.owner == owner, Study.lease_until < now)
        return self._set_study(name, {"owner": owner, "lease_until": now + seconds}, free)

    def renew_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Keep driving; False if the lease ran out and somebody else has taken it."""
        return self._set_study(name, {"lease_until": time.time() + seconds}, Study.owner == owner)

    def release_lease(self, name: str, owner: str) -> None:
        self._set_study(name, {"owner": None, "lease_until": None}, Study.owner == owner)

    def add_seconds(self, name: str, seconds: float) -> None:
        """Count more time as spent on the study."""
        self._set_study(name, {"seconds_spent": Study.seconds_spent + seconds})

    def set_spec(self, name: str, spec: Mapping[str, Any], text: str) -> None:
        """Replace the study's checked file and its text, for what may change in a study that exists."""
        self._set_study(name, {"spec": dict(spec), "text": text})

    def set_data(self, name: str, data: Mapping[str, Any]) -> None:
        """Remember what tells the study's images from changed ones."""
        with self._database.writing() as connection:
            connection.execute(delete(StudyData).where(StudyData.study == name))
            connection.execute(insert(StudyData).values(study=name, data=dict(data)))

    def data(self, name: str) -> dict[str, Any]:
        """What tells the study's images from changed ones; empty for a study from before that was kept."""
        rows = self._database.rows(select(StudyData.data).where(StudyData.study == name))
        return dict(rows[0].data) if rows else {}

    def set_study_run(self, name: str, experiment_id: str | None, run_id: str | None) -> None:
        """Remember the study's MLflow experiment and parent run."""
        self._set_study(name, {"experiment_id": experiment_id, "run_id": run_id})

    def add_trial(
        self,
        study: str,
        kind: Kind,
        number: int,
        family: str,
        params: Mapping[str, Any],
        seed: int,
        epochs: int,
    ) -> None:
        """Start a trial; one that failed or was interrupted starts again, with its epochs and failures."""
        fresh = {
            "family": family,
            "params": dict(params),
            "seed": seed,
            "epochs": epochs,
            "state": State.RUNNING,
        }
        fresh |= {"started_at": _now(), "finished_at": None, "error": None, "published": False}
        with self._database.writing() as connection:
            found = connection.execute(
                select(Trial.id, Trial.state).where(*_is(study, kind, number))
            ).first()
            if found is None:
                rest = {
                    "study": study,
                    "kind": kind,
                    "number": number,
                    "seconds": 0.0,
                    "result": {},
                }
                connection.execute(insert(Trial).values(fresh | rest))
            elif found.state in WITH_POINTS:
                raise StorageError(
                    f"{training_text(kind, number)} of study {study!r} is {found.state}; it cannot start again"
                )
            else:
                connection.execute(update(Trial).where(Trial.id == found.id).values(fresh))

    def trials(
        self, study: str, kind: Kind | None = None, state: State | None = None
    ) -> list[TrialRecord]:
        """The study's trials by kind and number."""
        query = (
            select(Trial.__table__).where(Trial.study == study).order_by(Trial.kind, Trial.number)
        )
        if kind:
            query = query.where(Trial.kind == kind)
        if state:
            query = query.where(Trial.state == state)
        return [record(TrialRecord, row) for row in self._database.rows(query)]

    def trial(self, study: str, kind: Kind, number: int) -> TrialRecord:
        """Raises StorageError when there is none."""
        found = self.find_trial(study, kind, number)
        if found is None:
            raise StorageError(f"study {study!r} has no {training_text(kind, number)}")
        return found

    def find_trial(self, study: str, kind: Kind, number: int) -> TrialRecord | None:
        rows = self._database.rows(select(Trial.__table__).where(*_is(study, kind, number)))
        return record(TrialRecord, rows[0]) if rows else None

    def add_epoch(self, study: str, kind: Kind, number: int, epoch: EpochRecord) -> None:
        """Keep an epoch; the same epoch again replaces it."""
        values = {"metrics": epoch.metrics, "gate_rates": epoch.gate_rates, "epoch": epoch.epoch}
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            connection.execute(
                delete(Epoch).where(Epoch.trial_id == trial, Epoch.epoch == epoch.epoch)
            )
            connection.execute(insert(Epoch).values(trial_id=trial, **values))

    def epochs(self, study: str, kind: Kind, number: int) -> list[EpochRecord]:
        query = select(Epoch.epoch, Epoch.metrics, Epoch.gate_rates).join(
            Trial, Trial.id == Epoch.trial_id
        )
        rows = self._database.rows(query.where(*_is(study, kind, number)).order_by(Epoch.epoch))
        return [record(EpochRecord, row) for row in rows]

    def add_rung(
        self, study: str, kind: Kind, number: int, epoch: int, data: Mapping[str, Any]
    ) -> None:
        """Keep what a trial showed at a rung; the same rung again replaces it and counts as reported last."""
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            connection.execute(delete(Rung).where(Rung.trial_id == trial, Rung.epoch == epoch))
            connection.execute(insert(Rung).values(trial_id=trial, epoch=epoch, data=dict(data)))

    def rungs(self, study: str, kind: Kind = Kind.SEARCH) -> list[RungRecord]:
        """What all trials of a kind showed at their rungs, in the order of reporting."""
        query = select(Trial.number.label("trial"), Rung.epoch, Rung.data).join(
            Trial, Trial.id == Rung.trial_id
        )
        of = query.where(Trial.study == study, Trial.kind == kind)
        return [record(RungRecord, row) for row in self._database.rows(of.order_by(Rung.id))]

    def finish_trial(
        self,
        study: str,
        kind: Kind,
        number: int,
        *,
        points: Sequence[OperatingPoint],
        result: Mapping[str, Any],
        seconds: float,
        of_trial: int | None = None,
        state: State = State.COMPLETE,
    ) -> None:
        """End a trial, complete or stopped, with all its operating points, or not at all; again replaces the points."""
        rows = [point_row(point) for point in points]
        done: dict[str, Any] = {
            "state": state,
            "result": dict(result),
            "seconds": seconds,
            "of_trial": of_trial,
        }
        done |= {"finished_at": _now(), "error": None, "published": False}
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            connection.execute(delete(Point).where(Point.trial_id == trial))
            if rows:
                connection.execute(insert(Point), [row | {"trial_id": trial} for row in rows])
            connection.execute(update(Trial).where(Trial.id == trial).values(done))

    def resume_trial(self, study: str, kind: Kind, number: int) -> None:
        """Let a stopped trial go on: it runs again, its points go; its seconds and rungs stay."""
        again: dict[str, Any] = {
            "state": State.RUNNING,
            "result": {},
            "finished_at": None,
            "published": False,
        }
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            stopped = update(Trial).where(Trial.id == trial, Trial.state == State.STOPPED)
            if not connection.execute(stopped.values(again)).rowcount:
                raise StorageError(
                    f"{training_text(kind, number)} of study {study!r} is not stopped; it cannot be resumed"
                )
            connection.execute(delete(Point).where(Point.trial_id == trial))

    def fail_trial(
        self, study: str, kind: Kind, number: int, *, error: str, epoch: int | None, trace: str
    ) -> None:
        """Mark a trial as failed and keep the reason of this attempt."""
        error, trace = (
            error.replace("\0", ""),
            trace.replace("\0", ""),
        )  # PostgreSQL takes no NUL in text
        failed = {"state": State.FAILED, "error": error, "finished_at": _now(), "published": False}
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            connection.execute(update(Trial).where(Trial.id == trial).values(failed))
            attempt = {
                "trial_id": trial,
                "epoch": epoch,
                "error": error,
                "trace": trace,
                "at": _now(),
            }
            connection.execute(insert(Failure).values(attempt))

    def points(
        self, study: str, kind: Kind | None = None, number: int | None = None
    ) -> list[PointRecord]:
        """The operating points of all complete and stopped trials, or of those of one kind, or of one number."""
        of = [Trial.study == study, Trial.state.in_(WITH_POINTS)]
        of += [Trial.kind == kind] if kind else []
        of += [Trial.number == number] if number is not None else []
        columns = (Trial.id, Trial.number, Trial.kind, Trial.family, Trial.params, Trial.run_id)
        with self._database.reading() as connection:
            trials = {row.id: row for row in connection.execute(select(*columns).where(*of))}
            query = select(Point.__table__).join(Trial, Trial.id == Point.trial_id).where(*of)
            rows = connection.execute(query.order_by(Point.id)).all()
        return [point_record(row, trials[row.trial_id]) for row in rows]

    def failures(self, study: str) -> list[FailureRecord]:
        """Every attempt that went wrong, in order."""
        columns = (
            Trial.kind,
            Trial.number.label("trial"),
            Failure.epoch,
            Failure.error,
            Failure.trace,
            Failure.at,
        )
        query = (
            select(*columns).join(Trial, Trial.id == Failure.trial_id).where(Trial.study == study)
        )
        return [
            record(FailureRecord, row) for row in self._database.rows(query.order_by(Failure.id))
        ]

    def set_run(
        self, study: str, kind: Kind, number: int, run_id: str | None, published: bool = True
    ) -> None:
        """Remember the MLflow run of a trial, and whether it shows the trial as it is now."""
        with self._database.writing() as connection:
            trial = _trial_id(connection, study, kind, number)
            connection.execute(
                update(Trial).where(Trial.id == trial).values(run_id=run_id, published=published)
            )

    def unpublish(self, study: str) -> None:
        """Forget the MLflow runs of all trials, so that they are logged again."""
        with self._database.writing() as connection:
            connection.execute(
                update(Trial).where(Trial.study == study).values(run_id=None, published=False)
            )

    def add_export(
        self,
        study: str,
        *,
        pick: str,
        folder: str,
        report: Mapping[str, Any],
        point: int | None = None,
        model_uri: str | None = None,
    ) -> ExportRecord:
        values = {
            "study": study,
            "point": point,
            "pick": pick,
            "folder": folder,
            "model_uri": model_uri,
        }
        with self._database.writing() as connection:
            added = (
                insert(Export)
                .values(**values, report=dict(report), created_at=_now())
                .returning(Export.id)
            )
            row = connection.execute(
                select(Export.__table__).where(Export.id == connection.scalar(added))
            ).one()
        return record(ExportRecord, row)

    def exports(self, study: str) -> list[ExportRecord]:
        query = select(Export.__table__).where(Export.study == study).order_by(Export.id)
        return [record(ExportRecord, row) for row in self._database.rows(query)]

    def _set_study(self, name: str, values: dict[str, Any], *conditions: Any) -> bool:
        """Change a study where the conditions hold; returns whether they did."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(Study).where(Study.name == name, *conditions).values(values)
            )
            if (
                not changed.rowcount
                and connection.scalar(select(Study.name).where(Study.name == name)) is None
            ):
                raise StorageError(f"there is no study {name!r}")
            return bool(changed.rowcount)


def _now() -> datetime:
    return datetime.now(UTC)


def _study(name: str) -> Select[Any]:
    return select(Study.__table__).where(Study.name == name)


def _is(study: str, kind: Kind, number: int) -> tuple[Any, ...]:
    return Trial.study == study, Trial.kind == kind, Trial.number == number


def _trial_id(connection: Connection, study: str, kind: Kind, number: int) -> int:
    found = connection.scalar(select(Trial.id).where(*_is(study, kind, number)))
    if found is None:
        raise StorageError(f"study {study!r} has no {training_text(kind, number)}")
    return found
