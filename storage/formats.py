"""Which number format networks of a size train in, by study and device; and which formats crash, for all studies.

A format is a plain mapping here (see trainers.execution.Execution), a device and a size are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select

from storage.database import Database
from storage.tables import FORMAT_CRASHES, FORMATS


class Formats:
    """The formats that were chosen, and those that took a process down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def chosen(self, study: str, device: str, size: str) -> dict[str, Any] | None:
        """None when none was chosen yet."""
        one = FORMATS.c.study == study, FORMATS.c.device == device, FORMATS.c.size == size
        rows = self._database.rows(select(FORMATS.c.execution).where(*one))
        return rows[0].execution if rows else None

    def choose(self, study: str, device: str, size: str, execution: Mapping[str, Any]) -> None:
        """Remember the choice."""
        values = {"study": study, "device": device, "size": size, "execution": dict(execution)}
        with self._database.writing() as connection:
            connection.execute(insert(FORMATS).values(values))

    def crashed(self, device: str, size: str) -> list[dict[str, Any]]:
        """The formats that took a process down, the first crash first."""
        one = FORMAT_CRASHES.c.device == device, FORMAT_CRASHES.c.size == size
        query = select(FORMAT_CRASHES.c.execution).where(*one).order_by(FORMAT_CRASHES.c.id)
        return [row.execution for row in self._database.rows(query)]

    def add_crash(self, device: str, size: str, execution: Mapping[str, Any]) -> None:
        values = {"device": device, "size": size, "execution": dict(execution)}
        with self._database.writing() as connection:
            connection.execute(insert(FORMAT_CRASHES).values(**values, at=datetime.now(UTC)))
