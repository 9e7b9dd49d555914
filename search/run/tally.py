"""How many trainings ended how, and the front that they make, shown as they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from search.run.job import Job
from search.run.progress import Progress
from search.schedule.decisions import Plan
from storage.records import Kind, PointRecord, State


class Tally:
    """Counts trainings of one kind: the trials of a search, or its finalists."""

    def __init__(self, progress: Progress, plan: Plan, kind: Kind) -> None:
        self._progress, self._plan, self._kind = progress, plan, kind
        self._ended = Counter[State]()

    def know(self, states: Iterable[State]) -> None:
        """Count those of earlier sessions, and show all."""
        self._ended.update(states)
        self.show()

    def add(self, kind: Kind, state: State) -> None:
        """One more has ended."""
        self._ended[state] += kind == self._kind
        self.show()

    def resume(self, kind: Kind) -> None:
        """One that was stopped goes on."""
        self._ended[State.STOPPED] -= kind == self._kind
        self.show()

    def show(self) -> None:
        self._progress.counts(
            complete=self._ended[State.COMPLETE],
            failed=self._ended[State.FAILED],
            stopped=self._ended[State.STOPPED],
            baselines_left=self._plan.baselines_left,
        )
        self._progress.show_front(*self._plan.current_front)

    def tell(self, job: Job, joined: Sequence[PointRecord], stopped_at: int | None) -> None:
        """Say of a training that it has ended, or after which epoch it was stopped, and what joined the front."""
        if stopped_at is None:
            self._progress.trial_finished(job, joined)
        else:
            self._progress.trial_stopped(job, stopped_at, joined)
