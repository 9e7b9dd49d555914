"""Inserts that say what happens where the row is there already."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy import Table


def upsert(dialect: str, table: Table) -> Any:
    """An insert into the table with `on_conflict_do_nothing` and `on_conflict_do_update`: each dialect has its own.

    The result's `rowcount` is how many rows it changed; SQLAlchemy keeps that of an insert only where it is asked to.
    """
    new = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    return new.execution_options(preserve_rowcount=True)
