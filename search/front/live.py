"""The front of a running study: its points, whether it still grows, and which part of it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from search.front.comparison import better_than_majority
from search.front.curves import Curve, ReferencePoint
from search.front.eligible import eligible
from search.front.pareto import front, hypervolume, reference_point_of
from search.front.region import corner_of
from search.objectives import Reference
from search.spec import StudySpec
from storage.records import Kind, PointRecord


@dataclass
class LiveFront:
    """The front, kept up as trainings end."""

    spec: StudySpec
    reference: Reference
    # accuracy of always answering the most frequent class; what is no better is on the front, and not shown
    majority: float = 0.0
    points: list[PointRecord] = field(default_factory=list)
    # whether it has grown too little over the trials that budget.plateau names
    plateau: bool = False
    # the front of all trainings that ended for good: what one of these points beats never comes back
    _settled: list[PointRecord] = field(default_factory=list)
    # of each training that was stopped, and may go on, what could be left when another goes on
    _stopped: dict[tuple[Kind, int], list[PointRecord]] = field(default_factory=dict)
    # when the points that are kept came, by their identity: of points that are equal the first stays
    _came: dict[int, int] = field(default_factory=dict)
    _clock: Iterator[int] = field(default_factory=count)
    # hypervolume before each trial ended, where plateaus count
    _before: list[float] = field(default_factory=list)

    @property
    def point(self) -> ReferencePoint:
        return reference_point_of(self.reference, self.spec.costs)

    @property
    def shown(self) -> list[PointRecord]:
        """The points that a person may choose from."""
        return better_than_majority(self.points, self.majority)

    @property
    def volume(self) -> float:
        return hypervolume(self.points, costs=self.spec.costs, reference=self.reference)

    @property
    def corner(self) -> Curve:
        """The worst corner of the region that the study asks for, as losses, as far as the front has come."""
        best = max((p.accuracy for p in self.points), default=0.0)
        return corner_of(self.spec.region, self.point, self.spec.costs, best)

    def extend(
        self, training: tuple[Kind, int], points: Sequence[PointRecord], *, stopped: bool = False
    ) -> list[PointRecord]:
        """A training has ended with these points, or was stopped; returns those that are on the front that is shown."""
        wait = self.spec.budget.plateau
        if wait and training[0] == Kind.SEARCH:
            self._before.append(self.volume)
        best = front(eligible(points, self.reference), self.spec.costs)
        own = [_lean(p) for p in best]
        self._keep(training, own, stopped)
        self.points = front([*self.points, *own], self.spec.costs)
        if (
            wait
            and len(self._before) >= wait.trials
            and (earlier := self._before[-wait.trials]) > 0
        ):
            self.plateau = self.volume < earlier * (1 + wait.growth)
        mine = {id(p) for p in own}
        return [p for p in self.shown if id(p) in mine]

    def withdraw(self, training: tuple[Kind, int]) -> None:
        """The stopped training goes on: what it was when it was stopped is no longer on offer."""
        self._stopped.pop(training, None)
        left = sorted(self._kept, key=lambda p: self._came[id(p)])
        self.points = front(left, self.spec.costs)

    @property
    def _kept(self) -> list[PointRecord]:
        return [*self._settled, *(p for points in self._stopped.values() for p in points)]

    def _keep(self, training: tuple[Kind, int], own: Sequence[PointRecord], stopped: bool) -> None:
        """Keep of a training's own front what may be on the study's front one day."""
        now = next(self._clock)
        self._stopped.pop(training, None)
        best = front([*self._settled, *own], self.spec.costs)
        if stopped:
            mine = {id(p) for p in own}
            self._stopped[training] = [p for p in best if id(p) in mine]
        else:
            self._settled = best
        self._came = {id(p): self._came.get(id(p), now) for p in self._kept}


def _lean(p: PointRecord) -> PointRecord:
    """The point without the open rates of its gates: most of its memory, and a study may have thousands of trials."""
    return replace(p, extra={name: value for name, value in p.extra.items() if name != "rates"})
