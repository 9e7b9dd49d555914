"""Time that a study has taken, over all its sessions, and whether any is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from storage.store import Store


class TimeSpent:
    """Counts wall-clock time from now on; `hours` is the most that the study may take in all."""

    def __init__(
        self,
        store: Store,
        study: str,
        hours: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._study, self._hours, self._clock = store, study, hours, clock
        self._counted = clock()
        self._spent: float | None = None  # by the tables: only this process adds to it now
        self._ends: float | None = None  # when the time is spent, by the clock

    @property
    def left(self) -> bool:
        """Whether the study may go on."""
        if self._hours is None:
            return True
        if self._spent is None:
            self._spent = self._store.study(self._study).seconds_spent
        self._ends = self._counted + 3600 * self._hours - self._spent
        return self._clock() < self._ends

    def seconds_left(self) -> float | None:
        """What is left, for any thread; None without a bound, or before it was asked whether the study may go on."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())

    def count(self, at_least: float = 0.0) -> None:
        """Add the time that went by to the study's, once it is so many seconds."""
        passed = self._uncounted()
        if passed >= at_least:
            self._store.add_seconds(self._study, passed)
            self._counted += passed
            self._spent = None

    def _uncounted(self) -> float:
        return self._clock() - self._counted
