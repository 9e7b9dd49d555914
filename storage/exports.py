"""Exported models: which point each came from, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update

from storage.database import Database
from storage.records import ExportRecord
from storage.rows import record, utc_now
from storage.tables import Export


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
            key = connection.scalar(insert(Export).values(values).returning(Export.id))
            row = connection.execute(select(Export.__table__).where(Export.id == key)).one()
        return record(ExportRecord, row)

    def set_model_uri(self, export: int, model_uri: str) -> None:
        """Remember under which address an export is registered in MLflow."""
        with self._database.writing() as connection:
            connection.execute(
                update(Export).where(Export.id == export).values(model_uri=model_uri)
            )

    def exports(self, study: str) -> list[ExportRecord]:
        """The study's exports, in order."""
        query = select(Export.__table__).where(Export.study == study).order_by(Export.id)
        return [record(ExportRecord, row) for row in self._database.rows(query)]
