"""The next suggestion, thought of in a thread while trials train."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Thought = TypeVar("Thought")


class ThinkAhead(Generic[Thought]):
    """Thinks of one thing at a time. What is reported meanwhile waits, so that speed decides nothing."""

    def __init__(self, think: Callable[[], Thought]) -> None:
        self._think = think
        self._thread = ThreadPoolExecutor(1, "sampler")
        self._ahead: Future[Thought] | None = None

    def start(self) -> None:
        """Think of the next one, unless that is done: it knows what was reported so far."""
        if self._ahead is None:
            self._ahead = self._thread.submit(self._think)

    def settle(self) -> None:
        """Wait until nothing is being thought of: a report that came in halfway would change what comes out."""
        if self._ahead is not None:
            wait([self._ahead])

    def take(self) -> Thought:
        """What was thought of ahead, or now."""
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else self._think()

    def close(self) -> None:
        self._thread.shutdown()
