"""Trials in Optuna's tables, written a trial at a time.

Optuna's storage asks its tables a question for each parameter of a trial, and writes each thing that ends one by
itself: thirty milliseconds a trial, during which SQLite lets nobody else write. Here a trial is two transactions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any, Protocol

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event, func, insert, select
from sqlalchemy.orm import Session

LAYOUT = "v3.2.0.a"  # of Optuna's tables, that these statements are for


class Writer(Protocol):
    """Writes trials of one study."""

    transactions: bool  # whether several writes can be one

    def create(self, trial: FrozenTrial) -> int:
        """The id of a new trial, which has the next number."""
        ...

    def end(
        self,
        trial: int,
        state: TrialState,
        values: Sequence[float] | None,
        shown: Mapping[str, object],
    ) -> None:
        """End the trial with this id; `shown` are user attributes. Raises UpdateFinishedTrialError."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """All that is written inside is one transaction, where there are `transactions`."""
        ...


def writer_of(storage: optuna.storages.BaseStorage, study: int) -> Writer:
    """Writes to the tables directly where their layout is the known one, else as Optuna does."""
    tables = getattr(storage, "_backend", storage)  # behind the cache that a study has
    if isinstance(tables, optuna.storages.RDBStorage) and tables.get_head_version() == LAYOUT:
        return _Tables(tables.engine, study)
    return _Calls(storage, study)


def commit_without_sync(engine: Engine) -> None:
    """Let SQLite flush a file with a write-ahead log at checkpoints only, as for our own tables beside these."""
    event.listen(engine, "connect", _relax)
    engine.dispose()  # connections from before


def _relax(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL").close()


class _Calls:
    """By calls of any storage."""

    transactions = False

    def __init__(self, storage: optuna.storages.BaseStorage, study: int) -> None:
        self._storage, self._study = storage, study

    def create(self, trial: FrozenTrial) -> int:
        return self._storage.create_new_trial(self._study, template_trial=trial)

    def end(
        self,
        trial: int,
        state: TrialState,
        values: Sequence[float] | None,
        shown: Mapping[str, object],
    ) -> None:
        for name, value in shown.items():
            self._storage.set_trial_user_attr(trial, name, value)
        self._storage.set_trial_state_values(trial, state, values)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Tables:
    """By Optuna's own tables."""

    transactions = True

    def __init__(self, engine: Engine, study: int) -> None:
        self._engine, self._study = engine, study
        self._open: Session | None = None  # the transaction that others are a part of

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._transaction() as self._open:
            try:
                yield
            finally:
                self._open = None

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        if self._open is not None:
            yield self._open
            return
        with Session(self._engine) as session, session.begin():
            yield session

    def create(self, trial: FrozenTrial) -> int:
        others = select(func.count()).where(models.TrialModel.study_id == self._study)
        row = models.TrialModel(
            study_id=self._study,
            state=TrialState.RUNNING,
            number=others.scalar_subquery(),
            datetime_start=trial.datetime_start,
        )
        with self._transaction() as session:
            session.add(row)
            session.flush()
            found = int(row.trial_id)
            params = [_param(found, trial, name) for name in trial.params]
            if params:
                session.execute(insert(models.TrialParamModel), params)
        return found

    def end(
        self,
        trial: int,
        state: TrialState,
        values: Sequence[float] | None,
        shown: Mapping[str, object],
    ) -> None:
        attributes = [
            {"trial_id": trial, "key": name, "value_json": json.dumps(value)}
            for name, value in shown.items()
        ]
        reached = [_value(trial, i, value) for i, value in enumerate(values or ())]
        with self._transaction() as session:
            # the lock first, where the server has one for a row
            row = session.get_one(models.TrialModel, trial, with_for_update=True)
            if row.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {row.number} has ended before")
            row.state, row.datetime_complete = state, datetime.now()
            session.flush()
            if attributes:
                session.execute(insert(models.TrialUserAttributeModel), attributes)
            if reached:
                session.execute(insert(models.TrialValueModel), reached)


def _param(trial: int, of: FrozenTrial, name: str) -> dict[str, Any]:
    distribution = of.distributions[name]
    return {
        "trial_id": trial,
        "param_name": name,
        "param_value": distribution.to_internal_repr(of.params[name]),
        "distribution_json": distribution_to_json(distribution),
    }


def _value(trial: int, objective: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial, "objective": objective, "value": stored, "value_type": kind}
