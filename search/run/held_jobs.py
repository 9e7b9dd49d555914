"""Jobs that wait until a process is free, for others of their kind to train with as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from search.run.job import Job

PATIENCE = 1.0  # seconds after the last job, in which the driver may bring another of the kind


class _Held(NamedTuple):
    job: Job
    kind: Hashable | None


class HeldJobs:
    """Jobs in the order in which they came; up to `together` of one kind begin together."""

    def __init__(self, together: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._together, self._clock = together, clock
        self._held: list[_Held] = []
        self._added = clock()

    def add(self, job: Job) -> None:
        self._held.append(self._of(job))
        self._added = self._clock()

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Those that do not begin now come before all others."""
        self._held = [*map(self._of, jobs), *self._held]

    def _of(self, job: Job) -> _Held:
        if self._together == 1:
            return _Held(job, None)
        from search.run.group import kind_of  # which needs PyTorch

        return _Held(job, kind_of(job))

    def clear(self) -> None:
        self._held.clear()

    @property
    def patience(self) -> float:
        """Seconds until those that are held begin as they are."""
        return max(0.0, self._added + PATIENCE - self._clock()) if self._held else float("inf")

    def ready(self, room: int) -> list[Job]:
        """The jobs that begin now in a free process, which are then held no more; none where it is worth to wait.

        `room`: how many more the driver may have brought or bring, those that are held included.
        """
        no_more = len(self._held) >= room or not self.patience
        for first in self._held:
            group = [first]
            if first.kind is not None:
                group = [one for one in self._held if one.kind == first.kind][: self._together]
            if first.kind is None or len(group) == self._together or no_more:
                self._held = [one for one in self._held if one not in group]
                return [one.job for one in group]
        return []
