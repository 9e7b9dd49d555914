"""A sign of life: a line whenever nothing was printed for a while, so that a person can tell long work from a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.text import Text

QUIET_SECONDS = 20.0  # after which a line is due
TICK = 1.0  # seconds between looks at the clock


class Heartbeat:
    """Says `line()` after each QUIET_SECONDS in which `heard` was not called. Use as a context manager."""

    def __init__(self, line: Callable[[], str], say: Callable[[str], None]) -> None:
        self._line, self._say = line, say
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self.heard()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def heard(self) -> None:
        """Something was printed."""
        self._heard = time.monotonic()

    def beat(self) -> None:
        """Say the line if it is due."""
        if time.monotonic() - self._heard >= QUIET_SECONDS:
            self.heard()
            self._say(self._line())

    def _run(self) -> None:
        while not self._over.wait(TICK):
            self.beat()


class Steps:
    """Says what is done before a training can start, one line a step, and that it still goes on. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what, self._since = "", time.monotonic()
        self._heartbeat = Heartbeat(self._still, self._print)

    def __enter__(self) -> Steps:
        self._heartbeat.__enter__()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._heartbeat.__exit__()

    def __call__(self, what: str) -> None:
        """This is done now, such as "reading the images"."""
        self._what, self._since = what, time.monotonic()
        self._print(what)

    def say(self, line: str) -> None:
        """A line of its own, as it is; where it is no terminal, unbroken."""
        self._heartbeat.heard()
        self._console.print(Text(line), soft_wrap=not self._console.is_terminal)

    def _print(self, line: str) -> None:
        self._heartbeat.heard()
        self._console.print(Text(f"  {line}", "dim"), soft_wrap=not self._console.is_terminal)

    def _still(self) -> str:
        return f"still {self._what}, for {time.monotonic() - self._since:.0f} s"
