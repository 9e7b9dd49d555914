"""Exported models as the pages show them: what was measured, how to use one, its files in one."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, cast
from zipfile import ZIP_DEFLATED, ZipFile

from search.export.card import beside_rows, metric_of_report
from search.export.folder import CARD, MODEL, ONNX, OWN, PICTURES
from storage.places import place, place_text
from storage.records import ExportRecord
from storage.settings import Settings
from storage.store import Store
from storage.urls import without_password

ONNX_PROGRAM = """\
import numpy, onnxruntime

session = onnxruntime.InferenceSession({!r})
image = numpy.zeros({}, numpy.uint8)  # yours: height, width, channels
pixels = image.transpose(2, 0, 1)[None].astype("float32") / 255
logits = session.run(None, {{"pixels": pixels}})[0]"""
MLFLOW_PROGRAM = """\
import mlflow

mlflow.set_tracking_uri({!r})
model = mlflow.pyfunc.load_model({!r})"""
IN_MEMORY = 16 * 2**20  # bytes of an archive; a larger one is made on disk


class Exported:
    """Reads of exports."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.folder = store, settings.folder
        self.tracking = without_password(settings.tracking_uri)

    def exports(self, study: str) -> list[dict[str, Any]]:
        """A study's exports, the newest first; without those that a newer one has overwritten."""
        newest: dict[str, ExportRecord] = {}
        for one in reversed(self.store.exports(study)):
            newest.setdefault(one.folder, one)
        return [self._entry(one) for one in newest.values()]

    def export(self, study: str, identifier: int) -> dict[str, Any]:
        """What was measured beside the static network, the card, and how to use the model. Raises ValueError."""
        one = self._record(study, identifier)
        folder, report = place(one.folder, self.folder), one.report
        return self._entry(one) | {
            "rows": [list(row) for row in beside_rows(report, metric_of_report(report))],
            "static": report["static"],
            "card": self._card(one),
            "files": {name: (folder / name).stat().st_size for name in self._files(one)},
            "uses": _uses(folder, one.model_uri, self.tracking),
        }

    def archive(self, study: str, identifier: int) -> tuple[str, io.BytesIO]:
        """(a file name, a zip of the export's files). Raises ValueError where they are gone, or elsewhere."""
        one = self._record(study, identifier)
        folder, names = place(one.folder, self.folder), self._files(one)
        if not names:
            raise ValueError(f"there is no model in {folder} any more; export the point again")
        # a temporary file, closed by whoever sends it
        content = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        name = f"{study}-point-{one.point}" if one.point else f"{study}-export-{one.id}"
        with ZipFile(content, "w", ZIP_DEFLATED) as archive:
            for file in names:
                archive.write(folder / file, f"{name}/{file}")
        content.seek(0)
        return f"{name}.zip", cast(io.BytesIO, content)

    def _record(self, study: str, identifier: int) -> ExportRecord:
        found = [one for one in self.store.exports(study) if one.id == identifier]
        if not found:
            raise ValueError(f"there is no export {identifier} of study {study}")
        return found[0]

    def _entry(self, one: ExportRecord) -> dict[str, Any]:
        return {
            "id": one.id,
            "study": one.study,
            "point": one.point,
            "pick": one.pick,
            "folder": place_text(one.folder, self.folder),
            "model": one.model_uri,
            "created": one.created_at.isoformat(),
            "here": bool(self._files(one)),
        }

    def _card(self, one: ExportRecord) -> str:
        file = place(one.folder, self.folder) / CARD
        return file.read_text(encoding="utf-8") if CARD in self._files(one) else ""

    def _files(self, one: ExportRecord) -> list[str]:
        """The model's files, below the data folder alone: what lies elsewhere is not for pages."""
        folder = place(one.folder, self.folder).resolve()
        if not folder.is_relative_to(self.folder.resolve()):
            return []
        pictures = sorted((folder / PICTURES).glob("*.*"))
        names = [*OWN, *(str(one.relative_to(folder)) for one in pictures)]
        return [name for name in names if _is_own(folder / name)]


def _is_own(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _shape(folder: Path) -> tuple[int, int, int]:
    """(height, width, channels) of the images that the model takes; zeros where its description is gone."""
    try:
        task = json.loads((folder / MODEL).read_text(encoding="utf-8"))["task"]
        return int(task["height"]), int(task["width"]), int(task["channels"])
    except (OSError, ValueError, KeyError):
        return 0, 0, 0


def _uses(folder: Path, uri: str | None, tracking: str) -> list[tuple[str, str]]:
    """How to use the model: (where, what to type). `tracking` is MLflow's address."""
    where, height_width_channels = str(folder), _shape(folder)
    uses = [
        ("In a terminal", f"dynafront predict {shlex.quote(where)} photo.jpg"),
        ("In Python", f"import dynafront\n\nmodel = dynafront.load({where!r})\nmodel('photo.jpg')"),
        ("With ONNX Runtime alone", ONNX_PROGRAM.format(str(folder / ONNX), height_width_channels)),
    ]
    if uri:
        program = MLFLOW_PROGRAM.format(tracking, uri)
        uses.append(("From the MLflow registry", program))
    return uses
