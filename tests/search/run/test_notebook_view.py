"""The live view of a notebook: drawn anew while it works, gone in the end."""

from __future__ import annotations

import time
from typing import Any

import IPython.display
import pytest
from rich.text import Text

import search.run.notebook as module
from search.run.notebook import NotebookConsole, NotebookView, in_notebook
from search.run.progress import Progress


class Handle:
    """What IPython gives for a display that can be changed."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def update(self, bundle: dict[str, str], raw: bool) -> None:
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Handle:
    found = Handle()

    def display(bundle: dict[str, str], **_: Any) -> Handle:
        found.shown.append(bundle)
        return found

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(module, "SECONDS", 0.01)
    return found


def wait_for(handle: Handle, text: str) -> None:
    for _ in range(500):
        if text in handle.shown[-1]["text/plain"]:
            return
        time.sleep(0.01)
    pytest.fail(f"never shown: {text}")


def test_it_follows_what_it_shows_and_is_cleared(handle: Handle) -> None:
    words = ["first <b>"]
    with NotebookView(lambda: Text(words[0])):
        assert handle.shown[0]["text/plain"] == "first <b>\n"
        assert "first &lt;b&gt;" in handle.shown[0]["text/html"]
        words[0] = "second"
        wait_for(handle, "second")
    assert handle.shown[-1] == {"text/plain": ""}


def test_progress_shows_its_view_there_and_prints_lines_as_text(
    handle: Handle, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(NotebookConsole(), "photos", 7, 1) as progress:
        wait_for(handle, "photos  0 of 7 trials done")
        progress.counts(complete=3, failed=0)
        wait_for(handle, "3 of 7 trials done")
        progress.say("a line [that] stays")
    assert capsys.readouterr().out == "a line [that] stays\n"


def test_a_test_is_no_notebook() -> None:
    assert not in_notebook()
