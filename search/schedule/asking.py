"""The next candidate: a known-good one first, then what the sampler suggests, as long as it is feasible."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from optuna.trial import FixedTrial

from search.schedule.history import History, Params, Training
from search.schedule.sampler import (
    InfeasibleError,
    Limit,
    Sampler,
    Spaces,
    draw_candidate,
    params_of,
)
from search.schedule.training_length import TrainingLength
from spaces.contract.family import Candidate
from storage.records import TrialRecord

logger = logging.getLogger(f"dynafront.{__name__}")


@dataclass
class Asking:
    """The sampler, what it may suggest, and the history that it learns from."""

    spaces: Spaces
    sampler: Sampler
    length: TrainingLength
    limit: Limit
    history: History
    starts: Sequence[Params] = ()  # known-good candidates, which come first
    # the sampler's suggestions that were found together with an earlier one
    ahead: deque[Params] = field(default_factory=deque)

    def suggestion(self) -> tuple[int, Candidate | InfeasibleError]:
        """The next trial's number and candidate, or why what was drawn is infeasible."""
        number, epochs = len(self.history.trials), self.length.next(self.history)
        given = self.starts[number] if number < len(self.starts) else None
        params = self.sampler.suggest(number, self.history, epochs, given)
        training = self.history.update(number, Training(params))
        try:
            candidate = draw_candidate(FixedTrial(dict(params)), self.spaces, epochs)
        except InfeasibleError as error:
            logger.debug("trial %d is infeasible: %s", number, error)
            return number, error
        if reason := self.limit(candidate):
            return number, InfeasibleError(candidate.family.name, dict(candidate.params), reason)
        self.history.update(number, replace(training, full=self.length.is_full(candidate)))
        return number, candidate

    def restore(self, record: TrialRecord) -> None:
        """A trial that was suggested in an earlier session."""
        params = params_of(record.family, record.params, self.spaces)
        self.observe(
            record.number, Training(params, full=record.epochs > self.length.short(record.family))
        )

    def observe(self, number: int, training: Training) -> None:
        """What is known of a trial from now on."""
        self.sampler.observe(number, self.history.update(number, training))

    def forget(self, number: int) -> None:
        """The trial failed."""
        self.observe(number, self.history.failed(number))

    def repeat(self, number: int, first: int) -> None:
        """The trial takes what is known of an equal one."""
        own, known = self.history.trials[number], self.history.trials[first]
        self.observe(number, replace(known, params=own.params, full=own.full))
