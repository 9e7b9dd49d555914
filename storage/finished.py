"""How trainings ended, written for many of them by a few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, delete, exists, select, tuple_

from storage.many_rows import insert_rows
from storage.named_trials import CHANGE, no_such_trial
from storage.records import Kind, OperatingPoint, PointRecord, State
from storage.rows import point_row, taken_over, utc_now
from storage.tables import ANSWERS, ATTEMPTS, POINTS, TRIALS

OWN = bindparam("own", type_=Integer(), expanding=True)
HAS_POINTS = exists().where(POINTS.c.trial_id == TRIALS.c.id)
SHARED = TRIALS.c.number, TRIALS.c.kind, TRIALS.c.family, TRIALS.c.params, TRIALS.c.run_id
OWNERS = select(TRIALS.c.id, *SHARED, HAS_POINTS.label("has_points")).where(
    TRIALS.c.study == bindparam("study"),
    tuple_(TRIALS.c.kind, TRIALS.c.number).in_(bindparam("names", expanding=True)),
)
NO_POINTS = delete(POINTS).where(POINTS.c.trial_id.in_(OWN))
NO_ATTEMPTS = delete(ATTEMPTS).where(ATTEMPTS.c.trial_id.in_(OWN))
POINTS_OF = select(POINTS.c.id).where(POINTS.c.trial_id.in_(OWN)).order_by(POINTS.c.id)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of a training, complete or stopped, with all its operating points.

    `seconds` that it took in all; `of_trial`: the trial whose result it takes.
    """

    kind: Kind
    number: int
    points: Sequence[OperatingPoint]
    result: Mapping[str, Any]
    seconds: float
    of_trial: int | None = None
    state: State = State.COMPLETE


def write_finished(
    connection: Connection, study: str, finished: Sequence[Finished]
) -> list[list[PointRecord]]:
    """Write them, in place of an earlier end; returns the points of each as they are stored.

    No start of them is under way any more. Raises StorageError where there is no such trial.
    """
    if not finished:
        return []
    owners = _owners(connection, study, finished)
    if old := [owner.id for owner in owners if owner.has_points]:
        connection.execute(NO_POINTS, {"own": old})
    stored = _written_points(connection, owners, finished)
    changes = [
        _change(one) | {"own": owner.id} for owner, one in zip(owners, finished, strict=True)
    ]
    connection.execute(CHANGE, changes)
    connection.execute(NO_ATTEMPTS, {"own": [owner.id for owner in owners]})
    return stored


def _owners(connection: Connection, study: str, finished: Sequence[Finished]) -> list[Row[Any]]:
    """The rows of these trials, in their order."""
    names = [(one.kind, one.number) for one in finished]
    rows = connection.execute(OWNERS, {"study": study, "names": names})
    known = {(row.kind, row.number): row for row in rows}
    for kind, number in names:
        if (kind, number) not in known:
            raise no_such_trial(study, kind, number)
    return [known[name] for name in names]


def _written_points(
    connection: Connection, owners: Sequence[Row[Any]], finished: Sequence[Finished]
) -> list[list[PointRecord]]:
    """Write the points, and which images they answer rightly, as far as that is known."""
    owned = [
        (owner, point) for owner, one in zip(owners, finished, strict=True) for point in one.points
    ]
    if not owned:
        return [[] for _ in finished]
    rows = [point_row(point) | {"trial_id": owner.id} for owner, point in owned]
    insert_rows(connection, POINTS, rows)
    # in the order in which they were written: all that these trainings had before is gone
    ids = connection.scalars(POINTS_OF, {"own": [owner.id for owner in owners]}).all()
    stored = list(zip(ids, owned, strict=True))
    answers = [
        {"point_id": own, "right": point.right}
        for own, (_, point) in stored
        if point.right is not None
    ]
    insert_rows(connection, ANSWERS, answers)
    records = (
        PointRecord(id=own, **point_row(point), **taken_over(owner))
        for own, (owner, point) in stored
    )
    return [list(islice(records, len(one.points))) for one in finished]


def _change(one: Finished) -> dict[str, Any]:
    done: dict[str, Any] = {"state": one.state, "result": dict(one.result)}
    done |= {"of_trial": one.of_trial, "seconds": one.seconds}
    return done | {"finished_at": utc_now(), "error": None, "published": False}
