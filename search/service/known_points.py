"""Operating points that were read before: of a study that runs, only those of trainings that changed are read again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from threading import Lock

from storage.records import Kind, PointRecord, TrialRecord
from storage.store import Store

MOST_READ = 50  # trainings that are read one by one; of more, all are read at once
STUDIES = 16  # that are remembered

Training = tuple[Kind, int]


class KnownPoints:
    """The points of studies, by training."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._known: dict[str, dict[Training, tuple[Hashable, list[PointRecord]]]] = {}

    def has(self, study: str) -> bool:
        """Whether points of this study were read before."""
        return study in self._known

    def of(self, study: str, trials: Sequence[TrialRecord]) -> list[PointRecord]:
        """What `store.points(study, rates=False)` gives, where `trials` are the study's trainings as they are now."""
        with self._lock:
            before = self._known.pop(study, {})
            self._known[study] = now = self._read(study, trials, before)
            while len(self._known) > STUDIES:
                del self._known[next(iter(self._known))]
        points = [p for _, own in now.values() for p in own]
        return sorted(points, key=lambda p: p.id or 0)

    def _read(
        self,
        study: str,
        trials: Sequence[TrialRecord],
        before: dict[Training, tuple[Hashable, list[PointRecord]]],
    ) -> dict[Training, tuple[Hashable, list[PointRecord]]]:
        timed = self._store.timed(study)
        marks = {(t.kind, t.number): (_mark(t), timed.get((t.kind, t.number))) for t in trials}
        changed = [one for one, mark in marks.items() if before.get(one, (None,))[0] != mark]
        fresh: dict[Training, list[PointRecord]] = {one: [] for one in changed}
        if len(changed) > MOST_READ:
            read = self._store.points(study, rates=False)
        else:
            read = [p for one in changed for p in self._store.points(study, *one, rates=False)]
        for p in read:
            if p.training in fresh:
                fresh[p.training].append(p)
        return {
            one: (mark, fresh[one] if one in fresh else before[one][1])
            for one, mark in marks.items()
        }


def _mark(t: TrialRecord) -> Hashable:
    """Another one whenever a training's points may be others: it ended, went on, or has its run in MLflow now.

    What was timed of its points later comes beside it.
    """
    return t.state, t.finished_at, t.seconds, t.run_id
