"""How long the next training is: short ones from baselines, until these add next to nothing; then full ones."""

from __future__ import annotations

from dataclasses import dataclass

from search.schedule import growth
from search.schedule.history import History
from search.schedule.sampler import STARTUP, Epochs, is_full
from spaces.contract.family import Candidate

PATIENCE, LITTLE = 10, 1e-3  # so many short trainings that add so little: time for full ones


@dataclass(frozen=True)
class TrainingLength:
    """Epochs of a trial by family: `short`, and `full` where there are two lengths."""

    short: Epochs
    full: Epochs | None
    costs: int

    def next(self, history: History) -> Epochs:
        """The epochs of the next trial, by family."""
        return self.full if self.full and self._exhausted(history) else self.short

    def is_full(self, candidate: Candidate) -> bool:
        """Whether a training is longer than the family's others."""
        return is_full(candidate, self.short)

    def _exhausted(self, history: History) -> bool:
        """Whether the last short trainings have added next to nothing."""
        measured = history.measured_trials()
        short = [number for number, one in measured.items() if not one.full]
        if len(short) < STARTUP + PATIENCE:
            return False
        earlier = {
            number: one for number, one in measured.items() if number not in short[-PATIENCE:]
        }
        budgets_BK = growth.budgets(self.costs) * history.corner[1:]
        # beyond the region, for until it is reached nothing is inside
        worst = min(1.0, 2 * float(history.corner[0]))
        now, before = (
            growth.area(history.front_within(trials, budgets_BK), budgets_BK, worst)
            for trials in (measured, earlier)
        )
        return now - before < LITTLE
