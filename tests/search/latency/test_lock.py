"""Who measures times waits for whoever does already."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from search.latency.lock import timing


def test_two_that_measure_times_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    began, seen = threading.Event(), list[str]()

    def second() -> None:
        began.set()
        with timing():
            seen.append("second")

    with timing():
        other = threading.Thread(target=second)
        other.start()
        began.wait()
        other.join(0.2)
        seen.append("first")
    other.join()
    assert seen == ["first", "second"]
