"""What a notebook shows while something runs: lines as text, and one view that is drawn anew while it works."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType

WIDTH = 120  # characters
SECONDS = 1.0  # between two drawings
PRE = "<pre style='line-height: normal'>{code}</pre>"


def in_notebook() -> bool:
    """Whether this program is a notebook's kernel, which displays more than text."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class NotebookConsole(Console):
    """Prints lines as text: a cell has one output of them, not one for each line."""

    def __init__(self) -> None:
        super().__init__(
            width=WIDTH, markup=False, emoji=False, highlight=False, force_jupyter=False
        )


class NotebookView:
    """Shows what `view` gives in the output of the cell, and clears it in the end. Use as a context manager."""

    def __init__(self, view: Callable[[], RenderableType]) -> None:
        self._view = view
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notebook-view", daemon=True)
        self._handle: Any = None

    def __enter__(self) -> NotebookView:
        from IPython.display import display

        self._handle = display(self._drawn(), raw=True, display_id=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._handle.update({"text/plain": ""}, raw=True)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            self._handle.update(self._drawn(), raw=True)

    def _drawn(self) -> dict[str, str]:
        console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
        console.print(self._view())
        text = console.export_text(clear=False)
        return {
            "text/plain": text,
            "text/html": console.export_html(inline_styles=True, code_format=PRE),
        }
