"""Many rows of a table written by one statement."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence, Set
from functools import cache
from math import isfinite
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Insert,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    column,
    func,
    insert,
    select,
)

Row = Mapping[str, Any]
PLACE = "place"  # of a row among the others


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Add the rows, all with the same columns, in their order: ids that the database gives ascend with it.

    PostgreSQL gets them as one JSON text. Given one by one it reads a statement for each, and with a parameter for
    each value psycopg is what takes long.
    """
    if not rows:
        return
    if connection.dialect.name != "postgresql" or not all(map(_is_json, rows)):
        connection.execute(_one_by_one(table), list(rows))
        return
    names = tuple(rows[0])
    whole = {name for name in names if isinstance(table.c[name].type, Integer)}
    given = [_packed(row, whole) | {PLACE: place} for place, row in enumerate(rows)]
    connection.execute(_from_json(table, names), {"rows": given})


def _is_json(row: Row) -> bool:
    """Whether JSON has all its numbers."""
    return all(isfinite(value) for value in row.values() if isinstance(value, float))


def _packed(row: Row, whole: Set[str]) -> dict[str, Any]:
    """The row without bytes, which JSON has not, and with integers where only these are taken."""
    packed = dict(row) | {name: int(row[name]) for name in whole}
    return packed | {
        name: b64encode(value).decode() for name, value in row.items() if isinstance(value, bytes)
    }


@cache
def _one_by_one(table: Table) -> Insert:
    return insert(table)


@cache
def _from_json(table: Table, names: tuple[str, ...]) -> Insert:
    """The statement for PostgreSQL, with a list of rows as its one parameter."""
    binary = {name for name in names if isinstance(table.c[name].type, LargeBinary)}
    sent = [column(name, Text() if name in binary else table.c[name].type) for name in names]
    read = func.json_to_recordset(bindparam("rows", type_=JSON))
    given = read.table_valued(*sent, column(PLACE, Integer()), name="given")
    given = given.render_derived(with_types=True)
    columns = [
        func.decode(given.c[name], "base64") if name in binary else given.c[name] for name in names
    ]
    return insert(table).from_select(names, select(*columns).order_by(given.c[PLACE]))
