"""The Why page: what the trainings show at once, and importances as they were last computed in the background."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from search.front.stored import StudyFront
from search.service.background import Background
from search.service.importance import why
from search.service.working import WHY
from storage.places import page_files
from storage.records import StudyRecord
from storage.store import Store

AGE = 300.0  # seconds for which importances of fewer trainings are good enough while a study runs


class Why:
    """Importances are kept in the data folder, with the state of the tables that they are of in the file's name."""

    def __init__(self, store: Store, folder: Path, background: Background) -> None:
        self._store, self._folder, self._background = store, folder, background
        self._seen: dict[str, tuple[str, dict[str, Any]]] = {}  # by study: a state, what it shows

    def shown(self, record: StudyRecord, front: StudyFront, stamp: str) -> dict[str, Any]:
        """All of the page; `importance` is None until it is computed, which the first who asks starts.

        `computing`: whether newer ones are on their way; `error`: why they are not.
        """
        found = self._trainings(record, front, stamp)
        if found["words"]:
            return found | {"importance": None, "computing": False, "error": ""}
        place = page_files(record, self._folder)
        newest = place / f"why-{stamp}.json"
        kept = sorted(place.glob("why-*.json"), key=lambda file: file.stat().st_mtime)
        error = self._background.error(newest)
        if not newest.is_file() and not error and not _recent(kept):
            self._background.start(newest, WHY, record.name)
        for older in kept[:-1]:
            older.unlink(missing_ok=True)
        return found | {
            "importance": _read(kept[-1]) if kept else None,
            "computing": self._background.running(newest),
            "error": error,
        }

    def _trainings(self, record: StudyRecord, front: StudyFront, stamp: str) -> dict[str, Any]:
        state = f"{record.created_at.isoformat()} {stamp}"
        known = self._seen.get(record.name)
        if known is None or known[0] != state:
            known = self._seen[record.name] = state, why(self._store, record, front)
        return known[1]


def _recent(kept: list[Path]) -> bool:
    return bool(kept) and time.time() - kept[-1].stat().st_mtime < AGE


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
