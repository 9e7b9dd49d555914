"""What is worked out once of each trial: whether a candidate was asked for already, and a training's own front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from search.front.curves import Curve, inside, own_front
from search.schedule.history import History, Params, Training
from spaces.contract.space import Value

Key = frozenset[tuple[str, Value]]


class KnownTrials:
    """Of trials by number; parameters of a trial never change, curves do while it trains."""

    def __init__(self) -> None:
        self._keys: dict[int, Key] = {}
        self._fronts: dict[int, tuple[Curve, Curve]] = {}  # of each curve its own front

    def asked(self, history: History) -> set[tuple[Key, bool]]:
        """Every candidate that was suggested, and whether at full length."""
        return {(self._key(number, one), one.full) for number, one in history.trials.items()}

    def fronts(self, trainings: Mapping[int, Training]) -> dict[int, Curve]:
        """The own front of each measured training, of points below the reference point."""
        return dict(self._each(trainings))

    def _key(self, number: int, training: Training) -> Key:
        if number not in self._keys:
            self._keys[number] = key_of(training.params)
        return self._keys[number]

    def _each(self, trainings: Mapping[int, Training]) -> Iterable[tuple[int, Curve]]:
        for number, one in trainings.items():
            if one.curve is None:
                continue
            if number not in self._fronts or self._fronts[number][0] is not one.curve:
                self._fronts[number] = one.curve, own_front(inside(one.curve))
            yield number, self._fronts[number][1]


def key_of(params: Params) -> Key:
    """Equal for equal parameters."""
    return frozenset(params.items())
