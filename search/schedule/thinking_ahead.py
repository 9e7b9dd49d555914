"""The next suggestion, computed by a thread while trials train."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Thought = TypeVar("Thought")


class ThinkAhead(Generic[Thought]):
    """Computes one thing at a time. What is reported meanwhile waits, so that speed decides nothing."""

    def __init__(self, think: Callable[[], Thought]) -> None:
        self._think = think
        self._thread = ThreadPoolExecutor(1, "sampler")
        self._ahead: Future[Thought] | None = None

    def start(self) -> None:
        """Compute the next one, unless that is done: it knows what was reported so far."""
        if self._ahead is None:
            self._ahead = self._thread.submit(self._think)

    def settle(self) -> None:
        """Wait until nothing is being computed: a report that came in halfway would change the result."""
        if self._ahead is not None:
            wait([self._ahead])

    def take(self) -> Thought:
        """What was computed ahead, or is now."""
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else self._think()

    def close(self) -> None:
        self._thread.shutdown()
