"""Early stopping by operating points: after some epochs, the rungs, a trial goes on only while it may extend the front.

Rungs are those of asynchronous successive halving: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and
Talwalkar, "A system for massively parallel hyperparameter tuning", MLSys, 2020; in more than one objective Schmucker,
Donini, Zafar, Salinas and Archambeau, "Multi-objective asynchronous successive halving", 2021. Those rank trials at a
rung and keep a third. Networks of different families learn at different speeds, though, and ranks then stop the slow
ones, which end up at the accurate end of the front. So here a trial is compared at what it may become: its curve, with
accuracy losses shrunk as far as the family's next training may be expected to shrink them from this rung to its end,
by the prediction interval of those that have ended: wide while these are few or differ. It goes on while that curve
would add to the front of all trials; one at the cheap or at the accurate end does. A trial that was stopped goes on
from its checkpoint when later ones show that it should have.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt
from typing import Protocol

import numpy as np
from scipy.stats import t as student

from search.front.curves import LEAST, NOTHING, Curve, inside, own_front, volume

ETA = 3  # rungs are so many times apart
FIRST = 2  # epochs before which nothing is compared
KNOWN = 3  # trainings of a family that must have ended before others of it are stopped
LUCK = 0.05  # chance that a family's next training learns more from a rung on than a trial is given credit for


Outlook = float | Sequence[float] | None  # of all costs, or of each


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs at which trials of so many epochs are compared, ascending; none for very short trainings."""
    found: list[int] = []
    at = epochs / ETA
    while round(at) >= FIRST:
        found.insert(0, round(at))
        at /= ETA
    return tuple(found)


class StoppingRule(Protocol):
    """Decides which trials go on. `group` names trainings that learn alike, `corner` the worst losses that count."""

    def rungs(self, number: int, epochs: int) -> tuple[int, ...]:
        """The epochs after which a trial of so many epochs is still to be judged, ascending."""
        ...

    def report(
        self,
        number: int,
        group: str,
        epoch: int,
        curve: Curve,
        outlook: Outlook,
        corner: Curve,
        decided: bool | None,
    ) -> bool:
        """Whether a trial goes on after this epoch; `decided` is what was decided when that was reported before."""
        ...

    def ended(self, number: int, group: str, curve: Curve) -> None:
        """The trial was trained to its end."""
        ...

    def baseline(self, curve: Curve) -> None:
        """Points of a baseline, which is no trial: they count for the front too."""
        ...

    def promising(self, corner: Curve) -> int | None:
        """A stopped trial that would go on by now; None if there is none."""
        ...

    def resume(self, number: int) -> int:
        """The trial goes on; returns the epoch that it was stopped after."""
        ...


class EarlyStopping:
    """What trials reported at each rung, and which go on. Decisions follow from what was reported, in its order."""

    def __init__(self) -> None:
        self.stopped: dict[int, int] = {}  # the epoch that a trial was stopped after
        self._seen: dict[
            int, dict[int, Curve]
        ] = {}  # curves by epoch and trial, at what they will cost
        self._group: dict[int, str] = {}
        self._ended: dict[int, Curve] = {}
        self._counting: dict[
            int, Curve
        ] = {}  # curves whose points count for the front: of ended and of stopped trials
        self._baselines: list[Curve] = []

    def rungs(self, number: int, epochs: int) -> tuple[int, ...]:
        return tuple(
            epoch for epoch in rung_epochs(epochs) if number not in self._seen.get(epoch, {})
        )

    def report(
        self,
        number: int,
        group: str,
        epoch: int,
        curve: Curve,
        outlook: Outlook = 1.0,
        corner: Curve | float = 1.0,
        decided: bool | None = None,
    ) -> bool:
        """Whether a trial goes on after this epoch.

        `outlook` is what each cost will be at the end over what it is now; a trial that cannot say yet (None) goes on.
        """
        self._group[number] = group
        if outlook is not None:
            later = curve.copy()
            later[:, 1:] *= np.asarray(outlook)
            self._seen.setdefault(epoch, {})[number] = later
        if decided is None:
            decided = outlook is None or bool(self._may_extend([number], epoch, corner))
        if not decided:
            self.stopped[number] = epoch
            self._counting[number] = own_front(inside(curve))
        return decided

    def ended(self, number: int, group: str, curve: Curve) -> None:
        self._group[number] = group
        self._ended[number] = curve
        self._counting[number] = own_front(inside(curve))

    def baseline(self, curve: Curve) -> None:
        self._baselines.append(own_front(inside(curve)))

    def promising(self, corner: Curve | float = 1.0) -> int | None:
        """A stopped trial that would go on by now, the farthest trained first; None if there is none."""
        for epoch in sorted(self._seen, reverse=True):
            waiting = sorted(
                number
                for number, at in self.stopped.items()
                if at == epoch and number in self._seen[epoch]
            )
            if found := self._may_extend(waiting, epoch, corner):
                return found[0]
        return None

    def resume(self, number: int) -> int:
        del self._counting[number]
        return self.stopped.pop(number)

    def _may_extend(self, numbers: Sequence[int], epoch: int, corner: Curve | float) -> list[int]:
        """Those of these trials, seen at this rung, whose curve at its best would add to the front."""
        on_offer = [*self._counting.values(), *self._baselines]
        if not numbers or not on_offer:
            return list(numbers)
        front = own_front(inside(np.concatenate(on_offer) / corner))
        reached = volume(front)
        gains = {group: self._gain(group, epoch) for group in set(self._group.values())}
        return [
            n
            for n in numbers
            if self._adds(front, reached, self._seen[epoch][n], gains[self._group[n]], corner)
        ]

    @staticmethod
    def _adds(
        front: Curve, reached: float, curve: Curve, gain: float | None, corner: Curve | float
    ) -> bool:
        """Whether a curve whose losses shrink by `gain` adds to the front; not known (None) counts as yes."""
        if gain is None:
            return True
        hoped = curve.copy()
        hoped[:, 0] *= gain
        return volume(np.concatenate([front, hoped / corner])) > reached + NOTHING

    def _gain(self, group: str, epoch: int) -> float | None:
        """What the least accuracy loss becomes from this rung on in a lucky training; None while too few have ended.

        One end of Student's prediction interval for one more observation of the ratio, taken as log-normal. Trainings
        that got worse learned nothing; were they to count as worse, others would be hoped to do better for it.
        """
        seen = self._seen.get(epoch, {})
        both = [number for number in self._ended if self._group[number] == group and number in seen]
        if len(both) < KNOWN:
            return None
        ratios = np.minimum(0.0, np.log([_least(self._ended[n]) / _least(seen[n]) for n in both]))
        reach = student.ppf(1 - LUCK, len(both) - 1) * ratios.std(ddof=1) * sqrt(1 + 1 / len(both))
        return exp(ratios.mean() - reach)


def _least(curve: Curve) -> float:
    """The least accuracy loss below the reference point; LEAST where it is less than can be told apart."""
    within = inside(curve)
    return max(LEAST, float(within[:, 0].min())) if len(within) else 1.0
