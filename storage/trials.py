"""Trainings from start to end: search trials, baselines, finalists, and every attempt that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from storage.attempts import begun
from storage.database import Database
from storage.errors import StorageError
from storage.finished import Finished, write_finished
from storage.named_trials import CHANGE, NAMED, is_trial, no_such_trial, trial_id
from storage.records import (
    FailureRecord,
    Kind,
    OperatingPoint,
    PointRecord,
    State,
    TrialRecord,
    training_text,
)
from storage.repeated import repeated
from storage.rows import record, utc_now
from storage.tables import ATTEMPTS, FAILURES, POINTS, TRIALS
from storage.upsert import upsert

WITH_POINTS = (State.COMPLETE, State.STOPPED)
# built once: to build a statement takes as long as to run it, and a driver runs these for every trial
WHOLE = select(TRIALS).where(*NAMED)
KNOWN = select(TRIALS.c.id, TRIALS.c.state).where(*NAMED)
FIRST_ATTEMPT = insert(ATTEMPTS)


class Trials:
    """The tables of trials and failures; what ends a trial writes its points too."""

    _database: Database

    @repeated
    def add_trial(
        self,
        study: str,
        kind: Kind,
        number: int,
        family: str,
        params: Mapping[str, Any],
        seed: int,
        epochs: int,
        *,
        begins: bool = False,
    ) -> TrialRecord:
        """Start a trial; one that failed or was interrupted starts again, with its epochs and failures.

        `begins`: its training is about to start, as for `Attempts.begin`.
        """
        fresh = {
            "family": family,
            "params": dict(params),
            "seed": seed,
            "epochs": epochs,
            "state": State.RUNNING,
        }
        fresh |= {"started_at": utc_now(), "finished_at": None, "error": None, "published": False}
        name = {"study": study, "kind": kind, "number": number}
        row: dict[str, Any] = fresh | name | {"seconds": 0.0, "result": {}}
        with self._database.writing() as connection:
            if _added(connection, row, begins):
                return TrialRecord(**row, of_trial=None, run_id=None)
            known = connection.execute(KNOWN, name).one()
            if known.state in WITH_POINTS:
                training = training_text(kind, number)
                raise StorageError(
                    f"{training} of study {study!r} is {known.state}; it cannot start again"
                )
            connection.execute(CHANGE, fresh | {"own": known.id})
            if begins:
                begun(connection, study, kind, number)
            return record(TrialRecord, connection.execute(WHOLE, name).one())

    def trials(
        self,
        study: str,
        kind: Kind | None = None,
        state: State | None = None,
        *,
        results: bool = True,
    ) -> list[TrialRecord]:
        """The study's trials by kind and number; without `results` these are empty: pictures make them large."""
        columns = [c for c in TRIALS.c if results or c.name != "result"]
        query = select(*columns).where(TRIALS.c.study == study)
        if kind:
            query = query.where(TRIALS.c.kind == kind)
        if state:
            query = query.where(TRIALS.c.state == state)
        rows = self._database.rows(query.order_by(TRIALS.c.kind, TRIALS.c.number))
        empty: dict[str, Any] = {} if results else {"result": {}}
        return [record(TrialRecord, row, **empty) for row in rows]

    def trial_counts(self, study: str) -> dict[tuple[Kind, State], int]:
        """How many trials of each kind are how far."""
        query = select(TRIALS.c.kind, TRIALS.c.state, func.count().label("trials"))
        query = query.where(TRIALS.c.study == study).group_by(TRIALS.c.kind, TRIALS.c.state)
        return {(Kind(r.kind), State(r.state)): r.trials for r in self._database.rows(query)}

    def trial(self, study: str, kind: Kind, number: int) -> TrialRecord:
        """Raises StorageError when there is none."""
        trial = self.find_trial(study, kind, number)
        if trial is None:
            raise no_such_trial(study, kind, number)
        return trial

    def find_trial(self, study: str, kind: Kind, number: int) -> TrialRecord | None:
        rows = self._database.rows(WHOLE, {"study": study, "kind": kind, "number": number})
        return record(TrialRecord, rows[0]) if rows else None

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
    ) -> list[PointRecord]:
        """End a trial as `finish_trials` does."""
        end = Finished(
            kind=kind,
            number=number,
            points=points,
            result=result,
            seconds=seconds,
            of_trial=of_trial,
            state=state,
        )
        return self.finish_trials(study, [end])[0]

    @repeated
    def finish_trials(self, study: str, finished: Sequence[Finished]) -> list[list[PointRecord]]:
        """End trials, complete or stopped, with all their operating points, all of them or none; again replaces the
        points.

        No start of them is under way any more. Returns the points of each as they are stored.
        """
        with self._database.writing() as connection:
            return write_finished(connection, study, finished)

    def resume_trial(self, study: str, kind: Kind, number: int) -> None:
        """Let a stopped trial go on: it runs again, its points go; its seconds and rungs stay."""
        if self.trial(study, kind, number).state != State.STOPPED:
            raise StorageError(
                f"{training_text(kind, number)} of study {study!r} is not stopped; it cannot be resumed"
            )
        self._run_again(study, kind, number)

    @repeated
    def _run_again(self, study: str, kind: Kind, number: int) -> None:
        again: dict[str, Any] = {"state": State.RUNNING, "result": {}}
        again |= {"finished_at": None, "published": False}
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            connection.execute(update(TRIALS).where(TRIALS.c.id == trial).values(again))
            connection.execute(delete(POINTS).where(POINTS.c.trial_id == trial))

    def retry_trial(self, study: str, kind: Kind, number: int) -> None:
        """Let a failed trial run again, with its number, seed and epochs; its failures stay."""
        again: dict[str, Any] = {"state": State.RUNNING, "error": None}
        again |= {"finished_at": None, "published": False}
        failed = update(TRIALS).where(
            *is_trial(study, kind, number), TRIALS.c.state == State.FAILED
        )
        with self._database.writing() as connection:
            if not connection.execute(failed.values(again)).rowcount:
                raise StorageError(
                    f"{training_text(kind, number)} of study {study!r} has not failed; it cannot be retried"
                )

    @repeated
    def fail_trial(
        self, study: str, kind: Kind, number: int, *, error: str, epoch: int | None, trace: str
    ) -> None:
        """Mark a trial as failed and keep the reason of this attempt; no start of it is under way any more."""
        # PostgreSQL takes no NUL in text
        error, trace = error.replace("\0", ""), trace.replace("\0", "")
        failed = {
            "state": State.FAILED,
            "error": error,
            "finished_at": utc_now(),
            "published": False,
        }
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            fails = update(TRIALS).where(TRIALS.c.id == trial, TRIALS.c.state != State.FAILED)
            if not connection.execute(fails.values(failed)).rowcount:
                return  # it is written: the server went away before it said so
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.trial_id == trial))
            attempt = {"epoch": epoch, "error": error, "trace": trace, "at": utc_now()}
            connection.execute(insert(FAILURES).values(trial_id=trial, **attempt))

    def failures(self, study: str) -> list[FailureRecord]:
        """Every attempt that went wrong, in order."""
        training = TRIALS.c.kind, TRIALS.c.number.label("trial")
        attempt = FAILURES.c.epoch, FAILURES.c.error, FAILURES.c.trace, FAILURES.c.at
        query = select(*training, *attempt).join(TRIALS, TRIALS.c.id == FAILURES.c.trial_id)
        rows = self._database.rows(query.where(TRIALS.c.study == study).order_by(FAILURES.c.id))
        return [record(FailureRecord, row) for row in rows]

    @repeated
    def set_run(
        self, study: str, kind: Kind, number: int, run_id: str | None, published: bool = True
    ) -> None:
        """Remember the MLflow run of a trial, and whether it shows the trial as it is now."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            change = update(TRIALS).where(TRIALS.c.id == trial)
            connection.execute(change.values(run_id=run_id, published=published))

    @repeated
    def unpublish(self, study: str) -> None:
        """Forget the MLflow runs of all trials, so that they are logged again."""
        with self._database.writing() as connection:
            change = update(TRIALS).where(TRIALS.c.study == study)
            connection.execute(change.values(run_id=None, published=False))


def _added(connection: Connection, row: Mapping[str, Any], begins: bool) -> bool:
    """Whether the trial is new: it is added then, and where it begins its first start."""
    dialect = connection.dialect.name
    if begins and dialect == "postgresql":  # one question less to the server
        values = {f"new_{name}": value for name, value in row.items()}
        return connection.scalar(_new_trial_that_begins(tuple(row)), values) is not None
    added = connection.scalar(_new_trial(dialect), row)
    if added is not None and begins:
        connection.execute(FIRST_ATTEMPT, {"trial_id": added, "epoch": 0})
    return added is not None


@cache
def _new_trial_that_begins(names: tuple[str, ...]) -> Any:
    """The statement for PostgreSQL that adds a trial and its first start, unless it is known."""
    values = {name: bindparam(f"new_{name}", type_=TRIALS.c[name].type) for name in names}
    added = _new_trial("postgresql").values(values).cte("added")
    start = select(added.c.id, literal(0))
    return insert(ATTEMPTS).from_select(["trial_id", "epoch"], start).returning(ATTEMPTS.c.id)


@cache
def _new_trial(dialect: str) -> Any:
    """The statement that adds a trial and returns its id, unless it is known: a driver runs this for every one."""
    names = ["study", "kind", "number"]
    new = upsert(dialect, TRIALS).on_conflict_do_nothing(index_elements=names)
    return new.returning(TRIALS.c.id)
