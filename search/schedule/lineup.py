"""Trials that are ready to be trained, and those that wait: for a baseline, or for an equal trial."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.schedule.baseline_pool import BaselinePool
from search.schedule.decisions import Record, Trial
from search.schedule.duplicates import Duplicates
from search.schedule.sampler import trial_seed
from spaces.contract.family import Candidate
from storage.records import Kind


@dataclass
class Lineup:
    """Which trial is trained next. Baselines that a trial starts from come before it."""

    seed: int
    baselines: BaselinePool
    duplicates: Duplicates
    ready: deque[Trial] = field(default_factory=deque)
    asked: deque[Record] = field(
        default_factory=deque
    )  # baselines that are still to be written down

    @property
    def next(self) -> Trial | None:
        """The trial that is trained next, where nothing else is to be done before."""
        return self.ready[0] if self.ready and not self.asked else None

    def add(self, trial: Trial) -> None:
        """It is trained when its turn comes, or waits for the baseline that it starts from."""
        baseline = None if trial.kind == Kind.BASELINE else self.baselines.baseline_for(trial)
        if baseline is None or self.baselines.is_trained(baseline):
            self.ready.append(trial)
            return
        if not self.baselines.is_known(baseline):
            self.add_baseline(baseline)
        self.baselines.hold(trial, baseline)

    def add_baseline(self, candidate: Candidate) -> None:
        """A baseline that is not known yet."""
        number = self.baselines.add(candidate)
        trial = Trial(Kind.BASELINE, number, candidate, trial_seed(self.seed, number))
        self.asked.append(Record(trial))
        self.ready.append(trial)

    def release(self, baseline: Candidate) -> None:
        """A baseline is there: the trials that waited for it are ready."""
        self.ready.extend(self.baselines.release(baseline))

    def abandon(self, baseline: Candidate) -> Sequence[int]:
        """A baseline failed; returns the trials that cannot be trained without it."""
        held = self.baselines.failed(baseline)
        return [n for one in held for n in self.duplicates.abandon(one.candidate, one.number)]
