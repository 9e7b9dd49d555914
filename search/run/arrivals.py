"""What trainings report, in the order in which it comes; that a place is free is known before it is written why.

With many trainings at once a driver fills places first. To write down how a training ended takes it several
milliseconds; a place that waited for that, behind the reports of others, would stand empty for longer than it takes to
start the next training there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from search.run.engine import Engine
from search.run.job import EpochResult, Event, Job, Outcome
from search.run.mirror_process import MANY

BEHIND = 8  # at most a share of 1 / BEHIND of the places is filled before it is written how their trainings ended
MOST = 4  # events for each place, that are taken before the first is handled


class Arrivals:
    """Events of an engine. One stays here until it is handled: a search that is interrupted can still write it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._here: deque[tuple[Job, Event]] = deque()

    @property
    def freed(self) -> int:
        """How many trainings have ended well of which that is not handled yet: each has left its place."""
        return len(self.ends())

    @property
    def waiting(self) -> bool:
        """Whether something has come that is not handled yet."""
        return bool(self._here)

    def look(self) -> None:
        """Take what has come, as far as the driver may be behind. With few places it never is: what a training showed
        is known before the next one is chosen."""
        slots = self._engine.slots
        if slots < MANY:
            return
        freed = self.freed
        while freed * BEHIND < slots and len(self._here) < MOST * slots:
            if (found := self._engine.next_event(0)) is None:
                return
            self._here.append(found)
            freed += isinstance(found[1], Outcome)

    def next(self, timeout: float) -> list[tuple[Job, Event]]:
        """The next event; none when nothing happened within `timeout` seconds. `handled` takes it away.

        To write down many epochs or ends costs little more than to write down one. With an epoch come all others that
        were taken: what else was taken of a training and says how it goes on came after its epochs. With an end come
        the ends right behind it.
        """
        if not self._here:
            if (found := self._engine.next_event(timeout)) is None:
                return []
            self._here.append(found)
        first = self._here[0]
        if isinstance(first[1], EpochResult):
            return self.epochs()
        return list(takewhile(_is_end, self._here)) or [first]

    def epochs(self) -> list[tuple[Job, Event]]:
        """All epochs that have come."""
        return [one for one in self._here if isinstance(one[1], EpochResult)]

    def ends(self) -> list[tuple[Job, Event]]:
        """All trainings that have ended well."""
        return list(filter(_is_end, self._here))

    def handled(self, events: Sequence[tuple[Job, Event]]) -> None:
        """These are written."""
        gone = set(map(id, events))
        self._here = deque(one for one in self._here if id(one) not in gone)

    def forget(self, job: Job) -> None:
        """The training was stopped: what became of its process after that says nothing."""
        self._here = deque(one for one in self._here if one[0].name != job.name)


def _is_end(one: tuple[Job, Event]) -> bool:
    return isinstance(one[1], Outcome)
