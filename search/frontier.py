"""The front of a running study: what stands on it, whether it still grows, and which part of it the search looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from search.curves import Box, Curve
from search.front import Point, Reference, box_of, front, hypervolume
from search.points import ON_OFFER, as_point, standing
from search.region import scale_of
from search.study_file import StudySpec
from storage.records import Kind, TrialRecord
from storage.store import Store


@dataclass
class Frontier:
    """The front, kept up as trainings end; our tables have the points."""

    spec: StudySpec
    store: Store
    reference: Reference
    points: list[Point] = field(default_factory=list)
    plateau: bool = False  # whether it has grown too little over the trials that budget.plateau names
    _before: list[float] = field(default_factory=list)  # hypervolume before each trial ended, where plateaus count

    @property
    def box(self) -> Box:
        return box_of(self.reference, self.spec.costs)

    @property
    def volume(self) -> float:
        return self._volume(self.points)

    @property
    def scale(self) -> Curve:
        """The worst corner of the region that the study asks for, as losses, as far as the front has come."""
        best = max((p.accuracy for p in self.points), default=0.0)
        return scale_of(self.spec.region, self.box, self.spec.costs, best)

    def read(self) -> list[Point]:
        """The front of everything that is stored, as when a trial's points are taken back; returns what may join it."""
        stored = [as_point(p) for kind in ON_OFFER for p in self.store.points(self.spec.study, kind=kind)]
        found = standing(stored, self.reference)
        self.points = front(found, self.spec.costs)
        return found

    def extend(self, kind: Kind, number: int) -> list[Point]:
        """A training has ended and its points are stored; returns those that are on the front."""
        if kind == "search" and self.spec.budget.plateau:
            self._before.append(self.volume)
        new = [as_point(one) for one in self.store.points(self.spec.study, kind=kind, number=number)]
        self.points = front([*self.points, *standing(new, self.reference)], self.spec.costs)
        self._look()
        return [p for p in self.points if p.training == (kind, number)]

    def take_up(self, trainings: Iterable[TrialRecord]) -> None:
        """The front of a study that goes on, and how it grew, so that a plateau is seen across interruptions."""
        found = self.read()
        if not self.spec.budget.plateau:
            return
        points: dict[tuple[Kind, int], list[Point]] = {}
        for point in found:
            points.setdefault(point.training, []).append(point)
        so_far: list[Point] = []
        for one in sorted(trainings, key=lambda t: (t.finished_at or t.started_at, t.number)):
            if one.state not in ("complete", "stopped") or one.of_trial is not None:
                continue
            if one.kind == "search":
                self._before.append(self._volume(so_far))
            so_far = front([*so_far, *points.get((one.kind, one.number), [])], self.spec.costs)
        self._look()

    def _look(self) -> None:
        wait = self.spec.budget.plateau
        if wait and len(self._before) >= wait.trials and (earlier := self._before[-wait.trials]) > 0:
            self.plateau = self.volume < earlier * (1 + wait.growth)

    def _volume(self, points: list[Point]) -> float:
        return hypervolume(points, cost=self.spec.costs, reference=self.reference)
