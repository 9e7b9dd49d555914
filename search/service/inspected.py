"""What a network does with images, for a point's panel: as its trial kept it, or measured when somebody asks.

What is measured is kept below the data folder, a folder for each point, so that it is measured once. This process
only reads it: PyTorch stays out of the server.
"""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from search.service.background import Background
from search.service.working import INSPECT
from storage.places import page_files
from storage.records import PointRecord, StudyRecord, TrialRecord

MEASURES, PAGE = "inspect.json", "inspect.html"
ROWS = {  # of images, by what an inspection calls them
    "cheapest": ("extremes", "cheapest"),
    "dearest": ("extremes", "dearest"),
    "wrong": ("mistakes", "wrong"),
}


class Asked(NamedTuple):
    """A point, with its training and its study."""

    record: StudyRecord
    trial: TrialRecord
    point: PointRecord

    def place(self, folder: Path) -> Path:
        """In the data folder; a training that went on, and so has other points, has another place."""
        record, trial, point = self
        when = trial.finished_at.isoformat() if trial.finished_at else ""
        what = [trial.kind, trial.number, when, point.knobs]
        own = sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        return page_files(record, folder) / f"point-{point.id}-{own}"

    @property
    def kept(self) -> dict[str, Any] | None:
        """What the training measured at its end, which was at the setting it was trained for alone."""
        found = self.trial.result.get("inspection")
        known = self.point.chosen and isinstance(found, dict) and "images" in found
        return found if known else None


class Inspected:
    """Measures of points, read from the data folder, or made in the background."""

    def __init__(self, folder: Path, background: Background) -> None:
        self._folder, self._background = folder, background

    def shown(self, asked: Asked) -> dict[str, Any]:
        """State, and as far as it is known: shares of the images by cost, captions of single images.

        "ready": measured; "measuring": it was asked for; "none": nobody asked; "failed": `error` says why. What a
        training kept is "ready" too, of fewer images and without a `page`.
        """
        folder = asked.place(self._folder)
        page = (folder / PAGE).is_file()
        if not page and self._background.running(folder):
            return {"state": "measuring"}
        if not page and (error := self._background.error(folder)):
            return {"state": "failed", "error": error}
        found = self._found(asked)
        if found is None:
            return {"state": "none"}
        return {
            "state": "ready",
            "page": page,
            "images": found["images"],
            "costs": (found.get("cost_shares") or {}).get("shares", []),
            "rows": {
                name: [{key: shot[key] for key in ("label", "answer", "macs")} for shot in row]
                for name in ROWS
                if (row := _row(found, name))
            },
        }

    def ask(self, asked: Asked) -> dict[str, Any]:
        """Measure the point unless it was, and say what `shown` says."""
        folder = asked.place(self._folder)
        if not (folder / PAGE).is_file():
            self._background.start(folder, INSPECT, asked.record.name, str(asked.point.id))
        return self.shown(asked)

    def image(self, asked: Asked, row: str, number: int) -> bytes:
        """One of the images as a PNG. Raises ValueError where there is none."""
        shots = _row(self._found(asked) or {}, row) if row in ROWS else []
        if not 0 <= number < len(shots):
            raise ValueError(
                f"there is no image {number} in {row[:20]!r} of point {asked.point.id}"
            )
        return base64.b64decode(shots[number]["png"])

    def page(self, asked: Asked) -> bytes:
        """The page of all that the network does. Raises ValueError where it was not measured here."""
        try:
            return (asked.place(self._folder) / PAGE).read_bytes()
        except OSError:
            raise ValueError(
                f"there is no page of point {asked.point.id}; measure it first"
            ) from None

    def _found(self, asked: Asked) -> dict[str, Any] | None:
        try:
            text = (asked.place(self._folder) / MEASURES).read_text(encoding="utf-8")
            return dict(json.loads(text))
        except (OSError, ValueError):
            return asked.kept


def _row(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    part, key = ROWS[name]
    return list((found.get(part) or {}).get(key, []))
