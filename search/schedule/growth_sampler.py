"""The sampler `growth`: asks for the candidate from which the front is expected to grow most, per epoch that it takes.

See search.schedule.growth for how whole curves of operating points are predicted and what a candidate is expected to
add, and search.schedule.ranking for where candidates come from.

Shapes: T trainings, S shares, B budgets, K costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from search.front.curves import Curve, layers_of_fronts, losses_within
from search.schedule import growth
from search.schedule.history import History, Params, Training
from search.schedule.known_trials import KnownTrials, key_of
from search.schedule.optuna_sampler import complete_params
from search.schedule.ranking import Look, Ranking
from search.schedule.sampler import STARTUP, Epochs, Given, Setting, draw_candidate
from search.schedule.thinking_ahead import ThinkAhead

Floats = NDArray[np.float64]


class Growth:
    """Expected growth of the front, by a forest over all trainings' curves."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._ranks = setting.ranks or Ranking(setting)
        self._thinking = ThinkAhead[list[Params]]()
        self._shares = growth.shares(setting.costs)
        self._losses: dict[
            int, dict[int, Floats]
        ] = {}  # (S,) within each share, by trial and epoch
        self._sizes: dict[int, tuple[float, ...]] = {}  # of the trials' baselines
        self._known = KnownTrials()

    def observe(self, number: int, training: Training) -> None:
        if training.curve is None:
            self._losses.pop(number, None)
            return
        relative = training.curve / np.array([1.0, *self._size(number, training.params)])
        losses = np.minimum(losses_within(relative, self._shares), 1.0)
        self._losses.setdefault(number, {})[training.epoch] = losses

    def think_ahead(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> None:
        # half of those that were found together are left while more are ranked, so that no slot waits for that
        enough = len(self.setting.ahead) > self.setting.together // 2
        if not (given or enough or self._thinking.busy):
            self._thinking.start(self._look(number, history, epochs))

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        if given:
            return complete_params(number, given, self.setting)
        ahead = self.setting.ahead
        if not ahead:  # the next of those that were found together, if there are any
            ranked = self._thinking.take(lambda: self._look(number, history, epochs)())
            ahead.extend(islice(self._fresh(ranked, history, epochs), self.setting.together))
        return ahead.popleft() if ahead else complete_params(number, {}, self.setting)

    @property
    def ready(self) -> bool:
        return bool(self.setting.ahead) or self._thinking.ready

    def settle(self) -> None:
        self._thinking.settle()

    def close(self) -> None:
        self._thinking.close()
        self._ranks.close()

    def _look(self, number: int, history: History, epochs: Epochs) -> Callable[[], list[Params]]:
        """What ranks candidates by what is known now."""
        measured = history.measured_trials()
        seen = trainings_to_learn_from(measured, self._known.fronts)
        grid_BK = growth.budgets(self.setting.costs) * history.corner[1:]
        sizes_TK = np.array([self._sizes[one] for one in seen])
        losses_TS, good, front_B = np.empty(0), list[int](), np.empty(0)
        if len(seen) >= STARTUP:
            losses_TS = learned_losses(seen, self._losses)
            good = _best_within(grid_BK, list(seen), sizes_TK, losses_TS)
            front_B = history.front_within(seen, grid_BK)
        look = Look(
            number=number,
            epochs={name: epochs(name) for name in self.setting.spaces},
            baselines=self.setting.trained(),
            params={one: training.params for one, training in seen.items()},
            full_T=[training.full for training in seen.values()],
            sizes_TK=sizes_TK,
            losses_TS=losses_TS,
            good=good,
            grid_BK=grid_BK,
            front_B=front_B,
            worst=float(history.corner[0]),
        )
        return partial(self._ranks.of, look)

    def _fresh(
        self, ranked: Sequence[Params], history: History, epochs: Epochs
    ) -> Iterator[Params]:
        """Of these, the ones that were not asked for yet and are within the limits."""
        asked = self._known.asked(history)
        for params in ranked:
            candidate = draw_candidate(Given(params), self.setting.spaces, epochs)
            key = key_of(params), self.setting.is_full(candidate)
            if key not in asked and not self.setting.limit(candidate):
                asked.add(key)
                yield params

    def _size(self, number: int, params: Params) -> tuple[float, ...]:
        if number not in self._sizes:
            candidate = draw_candidate(Given(params), self.setting.spaces, self.setting.short)
            self._sizes[number] = tuple(self.setting.size(candidate))
        return self._sizes[number]


def _best_within(
    grid_BK: Floats, numbers: Sequence[int], sizes_TK: Floats, losses_TS: Floats
) -> list[int]:
    """The trials that are best within some budget."""
    at = growth.at_budgets(grid_BK, sizes_TK)
    losses_TB = np.take_along_axis(losses_TS, np.maximum(at, 0), 1)
    return [numbers[i] for i in np.unique(np.where(at < 0, 1.0, losses_TB).argmin(0))]


def trainings_to_learn_from(
    measured: Mapping[int, Training], fronts: Callable[[Mapping[int, Training]], dict[int, Curve]]
) -> Mapping[int, Training]:
    """Trainings to learn from: all of them, or those nearest to the front and the latest; `fronts` are their own."""
    if len(measured) <= growth.REMEMBERED:
        return measured
    numbers = list(measured)
    layer = layers_of_fronts(fronts(measured))
    near = sorted(numbers, key=lambda n: layer[n])[: growth.REMEMBERED // 2]
    return {
        number: measured[number] for number in sorted({*near, *numbers[-growth.REMEMBERED // 2 :]})
    }


def learned_losses(
    seen: Mapping[int, Training], losses: Mapping[int, Mapping[int, Floats]]
) -> Floats:
    """(T, S) accuracy losses, given by trial and epoch; stopped trainings as if they had gone on like the others."""
    latest = {number: max(losses[number]) for number in seen}
    numbers = np.array(list(seen))
    found = np.stack([losses[number][latest[number]] for number in seen])
    ended = [number for number, one in seen.items() if one.ended]
    under_way = {(latest[number], one.full) for number, one in seen.items() if not one.ended}
    for epoch, full in under_way:
        alike = [
            number for number in ended if epoch in losses[number] and seen[number].full == full
        ]
        if not alike:
            continue
        gains = [
            losses[number][latest[number]] / np.maximum(losses[number][epoch], 1e-6)
            for number in alike
        ]
        at = np.array(
            [(latest[n], seen[n].full, seen[n].ended) == (epoch, full, False) for n in numbers]
        )
        found[at] *= np.minimum(1.0, np.median(gains, 0))
    return found
