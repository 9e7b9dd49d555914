"""The front of a running study: what stands on it, whether it still grows, and which part of it the search looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.front.curves import Box, Curve
from search.front.eligible import eligible
from search.front.pareto import box_of, front, hypervolume
from search.front.region import scale_of
from search.objectives import Reference
from search.spec import StudySpec
from storage.records import Kind, PointRecord


@dataclass
class LiveFront:
    """The front, kept up as trainings end."""

    spec: StudySpec
    reference: Reference
    points: list[PointRecord] = field(default_factory=list)
    plateau: bool = False  # whether it has grown too little over the trials that budget.plateau names
    _eligible: dict[tuple[Kind, int], list[PointRecord]] = field(default_factory=dict)  # by training
    _before: list[float] = field(default_factory=list)  # hypervolume before each trial ended, where plateaus count

    @property
    def box(self) -> Box:
        return box_of(self.reference, self.spec.costs)

    @property
    def volume(self) -> float:
        return hypervolume(self.points, costs=self.spec.costs, reference=self.reference)

    @property
    def scale(self) -> Curve:
        """The worst corner of the region that the study asks for, as losses, as far as the front has come."""
        best = max((p.accuracy for p in self.points), default=0.0)
        return scale_of(self.spec.region, self.box, self.spec.costs, best)

    def extend(self, training: tuple[Kind, int], points: Sequence[PointRecord]) -> list[PointRecord]:
        """A training has ended with these points; returns those that are on the front."""
        wait = self.spec.budget.plateau
        if wait and training[0] == Kind.SEARCH:
            self._before.append(self.volume)
        own = self._eligible[training] = eligible(points, self.reference)
        self.points = front([*self.points, *own], self.spec.costs)
        if wait and len(self._before) >= wait.trials and (earlier := self._before[-wait.trials]) > 0:
            self.plateau = self.volume < earlier * (1 + wait.growth)
        mine = {id(p) for p in own}
        return [p for p in self.points if id(p) in mine]

    def withdraw(self, training: tuple[Kind, int]) -> None:
        """The training goes on: what it was when it was stopped is no longer on offer."""
        self._eligible.pop(training, None)
        left = [p for points in self._eligible.values() for p in points]
        self.points = front(left, self.spec.costs)
