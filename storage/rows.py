"""Rows of the tables as records, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Row

from storage.records import Kind, OperatingPoint, PointRecord, State

Record = TypeVar("Record")

APART = ("right",)  # kept in a table of its own: only a few points are asked for it
POINT = tuple(field.name for field in fields(OperatingPoint) if field.name not in APART)
ENUMS: Mapping[str, type[StrEnum]] = {"kind": Kind, "state": State}


def record(
    kind: type[Record], row: Row[Any], enums: Mapping[str, type[StrEnum]] = ENUMS, **given: Any
) -> Record:
    """The row as a record of this kind; columns without a field are left out, fields that are `given` need none.

    `enums` by column.
    """
    columns = row._mapping
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    read = {name: _read(name, columns[name], enums) for name in names if name not in given}
    return kind(**read, **given)


def point_record(row: Row[Any], trial: Row[Any]) -> PointRecord:
    """A point together with what it takes over from its trial's row."""
    columns = row._mapping
    own = {name: columns[name] for name in POINT}
    return PointRecord(id=columns["id"], **own, **taken_over(trial))


def taken_over(trial: Row[Any]) -> dict[str, Any]:
    """What a point takes over from its trial's row."""
    return {
        "trial": trial.number,
        "kind": Kind(trial.kind),
        "family": trial.family,
        "params": trial.params,
        "run_id": trial.run_id,
    }


def point_row(point: OperatingPoint) -> dict[str, Any]:
    """The columns of a point."""
    return {name: getattr(point, name) for name in POINT}


def utc_now() -> datetime:
    """Every time that is stored."""
    return datetime.now(UTC)


def _read(name: str, value: Any, enums: Mapping[str, type[StrEnum]]) -> Any:
    if name in enums:
        return enums[name](value)
    return _in_utc(value) if isinstance(value, datetime) else value


def _in_utc(value: datetime) -> datetime:
    """SQLite gives times without a zone, PostgreSQL in its own: both leave as UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
