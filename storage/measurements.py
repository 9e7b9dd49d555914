"""What trainings showed: epochs, rungs, and operating points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Integer,
    Row,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    not_,
    select,
)

from storage.database import Database
from storage.named_trials import NAMED, is_trial, trial_id
from storage.records import TIMED, TIMED_STATIC, EpochRecord, Kind, PointRecord, RungRecord
from storage.repeated import repeated
from storage.rows import point_record, record
from storage.tables import ANSWERS, EPOCHS, POINTS, RUNGS, TIMINGS, TRIALS
from storage.trials import WITH_POINTS
from storage.upsert import upsert

RATES = "rates"  # of gates, in `extra`
MOST_NAMED = 500  # values in a statement: databases limit them


class Measurements:
    """The tables of epochs, rungs and points."""

    _database: Database

    def add_epoch(self, study: str, kind: Kind, number: int, epoch: EpochRecord) -> None:
        """Keep an epoch; the same epoch again replaces it."""
        self.add_epochs(study, [((kind, number), epoch)])

    @repeated
    def add_epochs(
        self, study: str, epochs: Sequence[tuple[tuple[Kind, int], EpochRecord]]
    ) -> None:
        """Keep epochs, all or none, each of the training of this kind and number; the same again replaces it."""
        rows = [
            {"study": study, "kind": kind, "number": number}
            | {"at": epoch.epoch, "measured": epoch.metrics, "rates": epoch.gate_rates}
            for (kind, number), epoch in epochs
        ]
        with self._database.writing() as connection:
            kept = connection.execute(_new_epoch(connection.dialect.name), rows)
            if kept.rowcount < len(rows):
                for (kind, number), _ in epochs:
                    trial_id(connection, study, kind, number)  # says that there is none

    def epochs(self, study: str, kind: Kind, number: int) -> list[EpochRecord]:
        columns = EPOCHS.c.epoch, EPOCHS.c.metrics, EPOCHS.c.gate_rates
        query = select(*columns).join(TRIALS, TRIALS.c.id == EPOCHS.c.trial_id)
        rows = self._database.rows(
            query.where(*is_trial(study, kind, number)).order_by(EPOCHS.c.epoch)
        )
        return [record(EpochRecord, row) for row in rows]

    @repeated
    def add_rung(
        self, study: str, kind: Kind, number: int, epoch: int, data: Mapping[str, Any]
    ) -> None:
        """Keep what a trial showed at a rung; the same rung again replaces it and counts as reported last."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            connection.execute(
                delete(RUNGS).where(RUNGS.c.trial_id == trial, RUNGS.c.epoch == epoch)
            )
            connection.execute(insert(RUNGS).values(trial_id=trial, epoch=epoch, data=dict(data)))

    def rungs(self, study: str, kind: Kind = Kind.SEARCH) -> list[RungRecord]:
        """What all trials of a kind showed at their rungs, in the order of reporting."""
        columns = TRIALS.c.number.label("trial"), RUNGS.c.epoch, RUNGS.c.data
        query = select(*columns).join(TRIALS, TRIALS.c.id == RUNGS.c.trial_id)
        of = query.where(TRIALS.c.study == study, TRIALS.c.kind == kind)
        return [record(RungRecord, row) for row in self._database.rows(of.order_by(RUNGS.c.id))]

    def points(
        self,
        study: str,
        kind: Kind | None = None,
        number: int | None = None,
        *,
        rates: bool = True,
    ) -> list[PointRecord]:
        """The operating points of all complete and stopped trials, or of those of one kind, or of one number.

        Without `rates` they lack the open rates of their gates, which are most of what is read and kept in memory.
        """
        of = [TRIALS.c.study == study, TRIALS.c.state.in_(WITH_POINTS)]
        of += [TRIALS.c.kind == kind] if kind else []
        of += [TRIALS.c.number == number] if number is not None else []
        with self._database.reading() as connection:
            trials = _trials(connection, *of)
            columns = POINTS.c if rates else _without_rates(connection)
            query = select(*columns).join(TRIALS, TRIALS.c.id == POINTS.c.trial_id).where(*of)
            rows = connection.execute(query.order_by(POINTS.c.id)).all()
            times = _times(connection, *of)
        return _timed(_records(rows, trials), times)

    def point_values(
        self,
        study: str,
        names: Sequence[str],
        *,
        kinds: Sequence[Kind],
        family: str | None = None,
        latest: int | None = None,
        beaten_by: Sequence[tuple[float, Mapping[str, float]]] = (),
    ) -> list[Row[Any]]:
        """(id, a value for each name) of the operating points of such trainings, in the order of ids.

        A name is a field of points, or a key of one of their dicts: "extra.latency_mean"; None where there is none.
        Of all trainings, or of the `latest` so many; without those points that one of `beaten_by` beats, each an
        accuracy and the fields that are costs. For a few values of many points: their records take twenty times as
        long.
        """
        of = [TRIALS.c.study == study, TRIALS.c.state.in_(WITH_POINTS), TRIALS.c.kind.in_(kinds)]
        of += [TRIALS.c.family == family] if family else []
        trainings = select(TRIALS.c.id).where(*of).order_by(TRIALS.c.id.desc()).limit(latest)
        query = select(POINTS.c.id, *map(_column, names)).where(POINTS.c.trial_id.in_(trainings))
        unbeaten = [_unbeaten(accuracy, costs) for accuracy, costs in beaten_by]
        return sorted(self._database.rows(query.where(*unbeaten)), key=itemgetter(0))

    def points_by_id(self, study: str, ids: Sequence[int]) -> list[PointRecord]:
        """The operating points with these ids, in their order; those that are gone are left out."""
        found: dict[int | None, PointRecord] = {}
        with self._database.reading() as connection:
            for some in _batches(ids, MOST_NAMED):
                rows = connection.execute(select(POINTS).where(POINTS.c.id.in_(some))).all()
                named = TRIALS.c.study == study, TRIALS.c.id.in_({row.trial_id for row in rows})
                records = _records(rows, _trials(connection, *named))
                times = _times(connection, POINTS.c.id.in_(some))
                found |= {one.id: one for one in _timed(records, times)}
        return [found[one] for one in ids if one in found]

    @repeated
    def add_timing(self, point: int, measured_ms: float, static_ms: float) -> None:
        """Keep what a point took as a whole network, and the static one beside it; again replaces it."""
        with self._database.writing() as connection:
            connection.execute(delete(TIMINGS).where(TIMINGS.c.point_id == point))
            values = {"measured_ms": measured_ms, "static_ms": static_ms}
            connection.execute(insert(TIMINGS).values(point_id=point, **values))

    def timings(self, study: str) -> dict[int, dict[str, float]]:
        """By point of the study what it took as a whole, as it stands in the point's `extra`."""
        with self._database.reading() as connection:
            return _times(connection, TRIALS.c.study == study)

    def timed(self, study: str) -> dict[tuple[Kind, int], tuple[int, float]]:
        """Of each training of which points were timed how many, and a sum that differs once one is timed anew."""
        query = select(
            TRIALS.c.kind, TRIALS.c.number, func.count(), func.sum(TIMINGS.c.measured_ms)
        )
        query = query.join_from(TIMINGS, POINTS, POINTS.c.id == TIMINGS.c.point_id)
        query = query.join(TRIALS, TRIALS.c.id == POINTS.c.trial_id)
        query = query.where(TRIALS.c.study == study).group_by(TRIALS.c.kind, TRIALS.c.number)
        rows = map(tuple, self._database.rows(query))
        return {(Kind(kind), number): (count, ms) for kind, number, count, ms in rows}

    def with_answers(self, points: Sequence[PointRecord]) -> list[PointRecord]:
        """The points with which images they answer rightly, as far as that was kept."""
        query = select(ANSWERS.c.point_id, ANSWERS.c.right)
        right: dict[int | None, bytes] = {}
        with self._database.reading() as connection:
            for some in _batches([p.id for p in points], MOST_NAMED):
                rows = connection.execute(query.where(ANSWERS.c.point_id.in_(some)))
                right |= {row.point_id: row.right for row in rows}
        return [replace(p, right=right.get(p.id)) for p in points]


@cache
def _new_epoch(dialect: str) -> Any:
    """The statement that keeps an epoch of a trial, or replaces it. It is one: drivers run no other more often."""
    columns = ("trial_id", "epoch", "metrics", "gate_rates")
    given = select(
        TRIALS.c.id,
        bindparam("at", type_=Integer),
        bindparam("measured", type_=JSON),
        bindparam("rates", type_=JSON),
    ).where(*NAMED)
    new = upsert(dialect, EPOCHS).from_select(columns, given)
    changed = {name: new.excluded[name] for name in columns[2:]}
    return new.on_conflict_do_update(index_elements=columns[:2], set_=changed)


def _trials(connection: Connection, *conditions: Any) -> dict[int, Row[Any]]:
    """What points take over of their trainings, by the id of these."""
    names = ("id", "number", "kind", "family", "params", "run_id")
    query = select(*(TRIALS.c[name] for name in names))
    return {row.id: row for row in connection.execute(query.where(*conditions))}


def _without_rates(connection: Connection) -> list[ColumnElement[Any]]:
    """The columns of points, `extra` without the open rates of gates."""
    left: ColumnElement[Any]
    if connection.dialect.name == "sqlite":
        left = func.json_remove(POINTS.c.extra, f"$.{RATES}", type_=JSON)
    else:
        from sqlalchemy.dialects.postgresql import JSONB  # most studies are in files

        left = cast(cast(POINTS.c.extra, JSONB).op("-")(RATES), JSON)
    return [left.label("extra") if column.name == "extra" else column for column in POINTS.c]


def _records(rows: Sequence[Row[Any]], trials: Mapping[int, Row[Any]]) -> list[PointRecord]:
    return [point_record(row, trials[row.trial_id]) for row in rows if row.trial_id in trials]


def _times(connection: Connection, *conditions: Any) -> dict[int, dict[str, float]]:
    """By point what it took as a whole network, of the timed points where the conditions hold."""
    query = select(TIMINGS).join(POINTS, POINTS.c.id == TIMINGS.c.point_id)
    query = query.join(TRIALS, TRIALS.c.id == POINTS.c.trial_id).where(*conditions)
    rows = connection.execute(query)
    return {r.point_id: {TIMED: r.measured_ms, TIMED_STATIC: r.static_ms} for r in rows}


def _timed(
    points: list[PointRecord], times: Mapping[int, Mapping[str, float]]
) -> list[PointRecord]:
    """The points with what they took as whole networks, where that was measured."""
    return [
        replace(p, extra={**p.extra, **times[p.id]}) if p.id is not None and p.id in times else p
        for p in points
    ]


def _unbeaten(accuracy: float, costs: Mapping[str, float]) -> ColumnElement[bool]:
    """Points that are not worse than this accuracy at no lower costs."""
    dearer = [POINTS.c[name] >= cost for name, cost in costs.items()]
    return not_(and_(POINTS.c.accuracy < accuracy, *dearer))


def _column(name: str) -> Any:
    """A column of points by name, or what stands under a key of one: numbers as numbers, or as text."""
    column, _, key = name.partition(".")
    return POINTS.c[column][key].as_string() if key else POINTS.c[column]


def _batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    yield from (values[i : i + size] for i in range(0, len(values), size))
