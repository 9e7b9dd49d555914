"""Suggestions that a sampler made together with an earlier one, and that are still to be tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any

from sqlalchemy import delete, insert, select

from storage.database import Database
from storage.repeated import repeated
from storage.tables import SUGGESTIONS


class Suggestions:
    """By study and by the number of the trial that tries one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def keep(self, study: str, first: int, params: Sequence[Mapping[str, Any]]) -> None:
        """Trial `first` and those after it try these; what was kept before is over."""
        rows = [
            {"study": study, "number": number, "params": dict(one)}
            for number, one in enumerate(params, first)
        ]
        with self._database.writing() as connection:
            connection.execute(delete(SUGGESTIONS).where(SUGGESTIONS.c.study == study))
            connection.execute(insert(SUGGESTIONS), rows)

    def left(self, study: str, first: int) -> list[dict[str, Any]]:
        """What trial `first` and those after it try; nothing where that of `first` is not known."""
        query = select(SUGGESTIONS.c.number, SUGGESTIONS.c.params).where(
            SUGGESTIONS.c.study == study
        )
        known = {row.number: row.params for row in self._database.rows(query)}
        return [known[number] for number in takewhile(known.__contains__, count(first))]
