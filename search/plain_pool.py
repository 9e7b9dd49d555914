"""The plain networks of a running study: which there are, who waits for one, and what that adds to a trial's price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.jobs import candidate_of
from search.plain_nets import USES, from_plain, plain_start
from search.sizes import size_key
from search.study_file import StudySpec
from spaces.family import Candidate
from spaces.space import Dimension
from storage.records import TrialRecord


@dataclass
class PlainPool:
    """Each plain network is trained once; trials that start from it wait until it is there."""

    spec: StudySpec
    spaces: Mapping[str, tuple[Dimension, ...]]
    records: dict[str, TrialRecord] = field(default_factory=dict)  # trained or to be trained, by their candidate's key
    _waiting: dict[str, list[TrialRecord]] = field(default_factory=dict)  # trials, by the key of what they wait for
    _starts: dict[Any, Candidate] = field(default_factory=dict)  # plain networks by family and size

    def add(self, record: TrialRecord) -> TrialRecord:
        self.records[candidate_of(record).key] = record
        return record

    def start_of(self, candidate: Candidate) -> Candidate | None:
        """The plain network that a candidate starts from; None if it starts from scratch, or as the study file says."""
        name = candidate.family.name
        if not from_plain(self.spec, name, candidate.recipe.epochs):
            return None
        size = size_key(candidate)
        if size not in self._starts:
            self._starts[size] = plain_start(self.spec, self.spaces[name], candidate)
        return self._starts[size]

    def hold(self, trial: TrialRecord, plain: Candidate) -> None:
        """The trial waits for this network."""
        self._waiting.setdefault(plain.key, []).append(trial)

    def trained(self, record: TrialRecord) -> list[TrialRecord]:
        """The network is there; returns the trials that waited for it."""
        self.add(record)
        return self._waiting.pop(candidate_of(record).key, [])

    def failed(self, plain: Candidate) -> list[TrialRecord]:
        """The network will not be there, unless another trial asks for it; returns the trials that waited for it."""
        self.records.pop(plain.key, None)
        return self._waiting.pop(plain.key, [])

    def price(self, candidate: Candidate) -> float:
        """Epochs that training a candidate takes, with its part of a plain network that is not there yet."""
        plain = self.start_of(candidate)
        missing = plain is not None and plain.key not in self.records
        return candidate.recipe.epochs + (self.spec.budget.epochs / USES if missing else 0.0)
