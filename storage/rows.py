"""Rows of the tables as records, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Row

from storage.records import PointRecord

Record = TypeVar("Record")

OF_TRIAL = {"id", "trial", "kind", "family", "params", "run_id"}  # what a point takes over from its trial
OPTIONAL = {"chosen": False, "extra": {}}
POINT = {field.name for field in fields(PointRecord)} - OF_TRIAL


def record(kind: type[Record], row: Row[Any]) -> Record:
    """The row as a record of this kind; columns without a field are left out."""
    columns = row._mapping
    return kind(**{field.name: _read(columns[field.name]) for field in fields(kind)})  # type: ignore[arg-type]


def point_record(row: Row[Any], trial: Row[Any]) -> PointRecord:
    """A point together with what it takes over from its trial's row."""
    own = {name: row._mapping[name] for name in POINT}
    return PointRecord(
        id=row.id,
        trial=trial.number,
        kind=trial.kind,
        family=trial.family,
        params=trial.params,
        run_id=trial.run_id,
        **own,
    )


def point_row(point: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a point, out of a mapping that may also hold what belongs to its trial."""
    missing, unknown = POINT - set(point) - set(OPTIONAL), set(point) - POINT - OF_TRIAL
    if missing or unknown:
        raise TypeError(f"an operating point lacks {sorted(missing)} and does not take {sorted(unknown)}")
    return {name: point.get(name, OPTIONAL.get(name)) for name in POINT}


def _read(value: Any) -> Any:
    """SQLite gives times without a zone, PostgreSQL in its own: both leave as UTC."""
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
