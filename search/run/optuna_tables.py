"""Trials in Optuna's tables, written many at a time.

Optuna's storage asks its tables a question for each parameter of a trial, and writes each thing that ends one by
itself: thirty milliseconds a trial, during which SQLite lets nobody else write. Here all that happened is one
transaction of a few statements, and what is written is made before it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, bindparam, event, func, insert, select, update

from storage.fence import Fence

LAYOUT = "v3.2.0.a"  # of Optuna's tables, that these statements are for
Row = dict[str, Any]

TRIALS: Any = models.TrialModel.__table__
NEW_PARAMS = insert(models.TrialParamModel.__table__)
NEW_SHOWN = insert(models.TrialUserAttributeModel.__table__)
NEW_VALUES = insert(models.TrialValueModel.__table__)
ENDED = update(TRIALS).where(TRIALS.c.trial_id == bindparam("own"))
ENDED = ENDED.values(state=bindparam("to"), datetime_complete=bindparam("at"))


@dataclass(frozen=True)
class Begin:
    """A trial was suggested: the next number."""

    number: int
    trial: FrozenTrial


@dataclass(frozen=True)
class End:
    """A trial ended; `shown` are user attributes. One that ended before stays as it is."""

    number: int
    state: TrialState
    values: Sequence[float] | None = None
    shown: Mapping[str, object] = field(default_factory=dict)


class Writer(Protocol):
    """Writes trials of one study."""

    transactions: bool  # whether several changes can be one

    def write(self, changes: Sequence[Begin | End], ids: Mapping[int, int]) -> dict[int, int]:
        """Make these changes, all or none where there are `transactions`; `ids` of trials are Optuna's, by number.

        Returns those of new trials.
        """
        ...


def writer_of(
    storage: optuna.storages.BaseStorage, study: int, fence: Fence | None = None
) -> Writer:
    """Writes to the tables directly where their layout is the known one, else as Optuna does.

    With a `fence` the tables are beside ours, and nothing is written that it does not let pass.
    """
    tables = getattr(storage, "_backend", storage)  # behind the cache that a study has
    if isinstance(tables, optuna.storages.RDBStorage) and tables.get_head_version() == LAYOUT:
        return _Tables(tables.engine, study, fence)
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

    def write(self, changes: Sequence[Begin | End], ids: Mapping[int, int]) -> dict[int, int]:
        new: dict[int, int] = {}
        for one in changes:
            if isinstance(one, Begin):
                new[one.number] = self._storage.create_new_trial(self._study, one.trial)
            else:
                with suppress(UpdateFinishedTrialError):
                    self._end(one, {**ids, **new}[one.number])
        return new

    def _end(self, one: End, trial: int) -> None:
        for name, value in one.shown.items():
            self._storage.set_trial_user_attr(trial, name, value)
        self._storage.set_trial_state_values(trial, one.state, one.values)


class _Tables:
    """By Optuna's own tables."""

    transactions = True

    def __init__(self, engine: Engine, study: int, fence: Fence | None) -> None:
        self._engine, self._study, self._fence = engine, study, fence
        others = select(func.count()).where(TRIALS.c.study_id == study)
        self._new = insert(TRIALS).values(study_id=study, number=others.scalar_subquery())
        self._latest = (
            select(TRIALS.c.trial_id)
            .where(TRIALS.c.study_id == study)
            .order_by(TRIALS.c.trial_id.desc())
        )

    def write(self, changes: Sequence[Begin | End], ids: Mapping[int, int]) -> dict[int, int]:
        begun = [one for one in changes if isinstance(one, Begin)]
        ended: dict[int, End] = {}  # of several ends of a trial the first counts
        for one in changes:
            if isinstance(one, End):
                ended.setdefault(one.number, one)
        params = [_params(one.trial) for one in begun]  # takes time: before the lock
        with self._engine.begin() as connection:
            new = self._begin(connection, begun, params) if begun else {}
            known = {**ids, **new}
            if ended:
                _end(connection, {known[number]: one for number, one in ended.items()})
            if self._fence is not None:  # last: SQLite's lock is held since the first change only
                self._fence.check(connection)
        return new

    def _begin(
        self, connection: Connection, begun: Sequence[Begin], params: Sequence[list[Row]]
    ) -> dict[int, int]:
        started = [one.trial.datetime_start for one in begun]
        rows = [{"state": TrialState.RUNNING, "datetime_start": one} for one in started]
        connection.execute(self._new, rows)
        latest = connection.scalars(self._latest.limit(len(begun))).all()
        new = {one.number: own for one, own in zip(begun, reversed(latest), strict=True)}
        owned = [
            row | {"trial_id": own}
            for own, of in zip(new.values(), params, strict=True)
            for row in of
        ]
        if owned:
            connection.execute(NEW_PARAMS, owned)
        return new


def _end(connection: Connection, ended: Mapping[int, End]) -> None:
    """End trials, by their ids."""
    # the lock first, where the server has one for a row
    found = select(TRIALS.c.trial_id, TRIALS.c.state).where(TRIALS.c.trial_id.in_(ended))
    states = {row.trial_id: row.state for row in connection.execute(found.with_for_update())}
    open_ones = {own: one for own, one in ended.items() if not states[own].is_finished()}
    if not open_ones:
        return
    now = datetime.now()
    to = [{"own": own, "to": one.state, "at": now} for own, one in open_ones.items()]
    connection.execute(ENDED, to)
    for statement, rows in (
        (NEW_SHOWN, [row for own, one in open_ones.items() for row in _shown(own, one)]),
        (NEW_VALUES, [row for own, one in open_ones.items() for row in _values(own, one)]),
    ):
        if rows:
            connection.execute(statement, rows)


def _params(trial: FrozenTrial) -> list[Row]:
    return [
        {
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": _as_json(distribution),
        }
        for name, distribution in trial.distributions.items()
    ]


@lru_cache(maxsize=4096)
def _as_json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)


def _shown(trial: int, one: End) -> Iterator[Row]:
    for name, value in one.shown.items():
        yield {"trial_id": trial, "key": name, "value_json": json.dumps(value)}


def _values(trial: int, one: End) -> Iterator[Row]:
    for objective, value in enumerate(one.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield {"trial_id": trial, "objective": objective, "value": stored, "value_type": kind}
