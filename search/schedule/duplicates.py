"""Equal candidates of a running study: one of them is trained, the others take its result."""

from __future__ import annotations

from dataclasses import dataclass, field

from spaces.contract.family import Candidate


@dataclass
class Duplicates:
    """Which trial is trained for each candidate, and which wait for its result, all by number."""

    _first: dict[str, int] = field(default_factory=dict)
    _waiting: dict[int, list[int]] = field(default_factory=dict)

    def first(self, candidate: Candidate, number: int) -> int:
        """The trial that is trained for this candidate: an earlier one, or from now on this."""
        return self._first.setdefault(candidate.key, number)

    def wait(self, number: int, first: int) -> None:
        self._waiting.setdefault(first, []).append(number)

    def release(self, number: int) -> list[int]:
        """The trial has a result; returns those that waited for it."""
        return self._waiting.pop(number, [])

    def failed(self, candidate: Candidate, number: int) -> int | None:
        """An equal candidate need not fail too: returns the first that waited, for which the others wait now."""
        self._first.pop(candidate.key, None)
        if not (waiting := self._waiting.pop(number, [])):
            return None
        first = self._first[candidate.key] = waiting[0]
        self._waiting[first] = waiting[1:]
        return first

    def abandon(self, candidate: Candidate, number: int) -> list[int]:
        """None of the equal trials can be trained; returns them all."""
        self._first.pop(candidate.key, None)
        return [number, *self._waiting.pop(number, [])]


class NoDuplicates(Duplicates):
    """Every candidate is trained, equal ones too."""

    def first(self, candidate: Candidate, number: int) -> int:
        return number
