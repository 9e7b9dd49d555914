"""The baselines of a running study: which are trained, which trials wait for one, what one adds to a trial's cost."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from search.schedule.decisions import Trial
from search.schedule.sizes import size_key
from search.schedule.warm_start import USES, baseline_of, needs_baseline
from search.spec import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.space import Dimension


@dataclass
class BaselinePool:
    """Each baseline is trained once; trials that start from it wait until it is there."""

    spec: StudySpec
    spaces: Mapping[str, tuple[Dimension, ...]]
    asked: int = 0  # so far, failed ones too: the number of the next
    _known: set[str] = field(default_factory=set)  # trained or to be trained, by key
    _trained: set[str] = field(default_factory=set)
    _waiting: dict[str, list[Trial]] = field(default_factory=dict)
    _starts: dict[Any, Candidate] = field(default_factory=dict)  # baselines by family and size

    def needed_by(self, candidate: Candidate) -> Candidate | None:
        """The baseline that a candidate starts from, or learns from; None if it does without."""
        name = candidate.family.name
        if not needs_baseline(self.spec, candidate):
            return None
        size = size_key(candidate)
        if size not in self._starts:
            self._starts[size] = baseline_of(self.spec, self.spaces[name], candidate)
        return self._starts[size]

    def baseline_for(self, trial: Trial) -> Candidate | None:
        """The baseline that this trial, about to be trained, starts or learns from, if it does."""
        return self.needed_by(trial.candidate)

    @property
    def trained(self) -> frozenset[str]:
        """The baselines that are trained by now, by key."""
        return frozenset(self._trained)

    def epoch_cost(self, candidate: Candidate, trained: AbstractSet[str]) -> float:
        """Epochs that training a candidate takes, with its part of a baseline that is not among the trained ones."""
        baseline = self.needed_by(candidate)
        missing = baseline is not None and baseline.key not in trained
        return candidate.recipe.epochs + (self.spec.budget.epochs / USES if missing else 0.0)

    def add(self, baseline: Candidate) -> int:
        """It is to be trained; returns its number."""
        self._known.add(baseline.key)
        self.asked += 1
        return self.asked - 1

    def is_known(self, baseline: Candidate) -> bool:
        return baseline.key in self._known

    def is_trained(self, baseline: Candidate) -> bool:
        return baseline.key in self._trained

    def hold(self, trial: Trial, baseline: Candidate) -> None:
        """The trial waits for this baseline."""
        self._waiting.setdefault(baseline.key, []).append(trial)

    def release(self, baseline: Candidate) -> list[Trial]:
        """The baseline is there; returns the trials that waited for it."""
        self._trained.add(baseline.key)
        return self._waiting.pop(baseline.key, [])

    def failed(self, baseline: Candidate) -> list[Trial]:
        """The baseline will not be there, unless another trial asks for it; returns the trials that waited for it."""
        self._known.discard(baseline.key)
        return self._waiting.pop(baseline.key, [])

    @property
    def left(self) -> int:
        """Baselines that are still to be trained."""
        return len(self._known - self._trained)
