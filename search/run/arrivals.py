"""What trainings report, in the order in which it comes; that a place is free is known before it is written why.

With many trainings at once a driver fills places first. To write down how a training ended takes it several
milliseconds; a place that waited for that, behind the reports of others, would stand empty for longer than it takes to
start the next training there.
"""

from __future__ import annotations

from collections import deque

from search.run.engine import Engine
from search.run.job import EpochResult, Event, Job, Outcome
from search.run.mirror_process import MANY

BEHIND = 8  # at most a share of 1 / BEHIND of the places is filled before it is written how their trainings ended


class Arrivals:
    """Events of an engine. Those that `look` took are kept here until they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._here: deque[tuple[Job, Event]] = deque()

    @property
    def freed(self) -> int:
        """How many trainings are over of which that is not handled yet: each has left its place."""
        return sum(isinstance(event, Outcome) for _, event in self._here)

    @property
    def waiting(self) -> bool:
        """Whether something was taken that is not handled yet."""
        return bool(self._here)

    def look(self) -> None:
        """Take what has come, as far as the driver may be behind. With few places it never is: what a training showed
        is known before the next one is chosen."""
        slots = self._engine.slots
        if slots < MANY:
            return
        while self.freed * BEHIND < slots and (found := self._engine.next_event(0)) is not None:
            self._here.append(found)

    def next(self, timeout: float) -> tuple[Job, Event] | None:
        """The next event, or None when nothing happened within `timeout` seconds."""
        return self._here.popleft() if self._here else self._engine.next_event(timeout)

    def epochs(self) -> list[tuple[Job, EpochResult]]:
        """The epochs among what was taken: to write one down costs as much as to write down many.

        Whatever else was taken of their trainings came after them.
        """
        found = [(job, event) for job, event in self._here if isinstance(event, EpochResult)]
        self._here = deque(one for one in self._here if not isinstance(one[1], EpochResult))
        return found

    def rest(self) -> list[tuple[Job, Event]]:
        """What was taken and not asked for yet; afterwards it is nobody's."""
        found = list(self._here)
        self._here.clear()
        return found
