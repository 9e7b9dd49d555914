"""The next candidate: a known-good one first, then what the sampler suggests, as long as it is feasible."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from search.schedule.history import History, Params, Training
from search.schedule.sampler import (
    Epochs,
    Given,
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

    # what the next suggestion is asked with, from when it was thought of first
    _next: tuple[int, History, Epochs, Params | None] | None = None

    def think_ahead(self) -> None:
        """Begin to compute the next suggestion, from what is known now."""
        if self._next is None:
            self._next = self._due()
        self.sampler.think_ahead(*self._next)

    def suggestion(self) -> tuple[int, Candidate | InfeasibleError]:
        """The next trial's number and candidate, or why what was drawn is infeasible."""
        number, history, epochs, given = self._next or self._due()
        self._next = None
        params = self.sampler.suggest(number, history, epochs, given)
        training = self.history.update(number, Training(params))
        try:
            candidate = draw_candidate(Given(params), self.spaces, epochs)
        except InfeasibleError as error:
            logger.debug("trial %d is infeasible: %s", number, error)
            return number, error
        if reason := self.limit(candidate):
            return number, InfeasibleError(candidate.family.name, dict(candidate.params), reason)
        self.history.update(number, replace(training, full=self.length.is_full(candidate)))
        return number, candidate

    def _due(self) -> tuple[int, History, Epochs, Params | None]:
        number = len(self.history.trials)
        given = self.starts[number] if number < len(self.starts) else None
        return number, self.history, self.length.next(self.history), given

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
