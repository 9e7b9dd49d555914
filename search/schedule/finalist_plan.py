"""A plan that trains the front's most valuable trials again: other seeds, more epochs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from search.front.finalists import LONGER, SEEDS
from search.schedule.decisions import Decision, Ended, Record, Start, Trial
from search.schedule.sampler import trial_seed
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, OperatingPoint, PointRecord, State
from storage.store import Store


class FinalistPlan:
    """Each of these trials SEEDS times; what is complete is not trained again, what failed is. Nothing is stopped."""

    def __init__(self, store: Store, study: str, trials: Sequence[int]) -> None:
        self._waiting: deque[Trial] = deque(missing(store, study, trials))
        self._recorded: Trial | None = None

    def next(self) -> Decision | None:
        if self._recorded is not None:
            trial, self._recorded = self._recorded, None
            return self.start(trial)
        if not self._waiting:
            return None
        self._recorded = self._waiting.popleft()
        return Record(self._recorded)

    def start(self, trial: Trial) -> Start:
        return Start(trial)

    def ask_ahead(self) -> None:
        pass

    def report(
        self, trial: Trial, epoch: int, points: Sequence[OperatingPoint], outlook: float | None
    ) -> bool:
        return True

    def ended(
        self, trial: Trial, points: Sequence[PointRecord], stopped_at: int | None = None
    ) -> Ended:
        return Ended()

    def failed(self, trial: Trial) -> Sequence[int]:
        return ()

    def close(self) -> None:
        pass

    @property
    def ready(self) -> bool:
        return True

    @property
    def finished(self) -> bool:
        return not self._waiting and self._recorded is None

    @property
    def baselines_left(self) -> int:
        return 0

    @property
    def current_front(self) -> tuple[Sequence[PointRecord], float]:
        return (), 0.0


def missing(store: Store, study: str, trials: Sequence[int]) -> Iterator[Trial]:
    """The trainings of these finalists that are not complete."""
    stored = {one.seed: one for one in store.trials(study, kind=Kind.FINALIST)}
    free = max((one.number for one in stored.values()), default=-1) + 1
    for number in trials:
        source = store.trial(study, Kind.SEARCH, number)
        candidate = Candidate.of(family(source.family), source.params, LONGER * source.epochs)
        for seed in (trial_seed(source.seed, i) for i in range(1, SEEDS + 1)):
            found = stored.get(seed)
            if found is None:
                yield Trial(Kind.FINALIST, free, candidate, seed, source=number)
                free += 1
            elif found.state != State.COMPLETE:
                yield Trial(Kind.FINALIST, found.number, candidate, seed, source=number)
