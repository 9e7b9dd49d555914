"""Exported models: which point each came from, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update

from storage.database import Database
from storage.records import ExportRecord
from storage.rows import record, utc_now
from storage.tables import EXPORTS


class Exports:
    """The table of exports."""

    _database: Database

    def add_export(
        self,
        study: str,
        *,
        pick: str,
        folder: str,
        report: Mapping[str, Any],
        point: int | None = None,
        model_uri: str | None = None,
    ) -> ExportRecord:
        """Remember an export; returns it as it is stored."""
        values = {
            "study": study,
            "point": point,
            "pick": pick,
            "folder": folder,
            "model_uri": model_uri,
            "report": dict(report),
            "created_at": utc_now(),
        }
        with self._database.writing() as connection:
            key = connection.scalar(insert(EXPORTS).values(values).returning(EXPORTS.c.id))
            row = connection.execute(select(EXPORTS).where(EXPORTS.c.id == key)).one()
        return record(ExportRecord, row)

    def set_model_uri(self, export: int, model_uri: str) -> None:
        """Remember under which address an export is registered in MLflow."""
        with self._database.writing() as connection:
            connection.execute(
                update(EXPORTS).where(EXPORTS.c.id == export).values(model_uri=model_uri)
            )

    def exports(self, study: str) -> list[ExportRecord]:
        """The study's exports, in order."""
        query = select(EXPORTS).where(EXPORTS.c.study == study).order_by(EXPORTS.c.id)
        return [record(ExportRecord, row) for row in self._database.rows(query)]
