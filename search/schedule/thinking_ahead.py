"""The next suggestion, computed by a thread while trials train."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Thought = TypeVar("Thought")


class ThinkAhead(Generic[Thought]):
    """Computes one thing at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sampler")
        self._ahead: Future[Thought] | None = None

    @property
    def busy(self) -> bool:
        """Whether something was begun that nobody took yet."""
        return self._ahead is not None

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once what was begun, or would have to compute it itself."""
        return self._ahead is None or self._ahead.done()

    def start(self, think: Callable[[], Thought]) -> None:
        """Begin to compute this, unless something was begun already."""
        if self._ahead is None:
            self._ahead = self._thread.submit(think)

    def settle(self) -> None:
        """Wait until nothing is being computed: for thoughts that what is reported meanwhile would change."""
        if self._ahead is not None:
            wait([self._ahead])

    def take(self, think: Callable[[], Thought]) -> Thought:
        """What was begun, or this, computed now."""
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else think()

    def close(self) -> None:
        self._thread.shutdown()
