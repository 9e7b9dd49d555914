"""The sampler `growth`: asks for the candidate from which the front is expected to grow most, per epoch that it takes.

See search.schedule.growth for how whole curves of operating points are predicted and what a candidate is expected to
add.

Shapes: T trainings, S shares, C candidates, K costs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FixedTrial

from search.front.curves import Curve, layers_of_fronts, losses_within
from search.schedule import growth
from search.schedule.history import History, Params, Training
from search.schedule.known_trials import Key, KnownTrials, key_of
from search.schedule.optuna_sampler import complete_params
from search.schedule.sampler import STARTUP, Epochs, Setting, draw_candidate
from spaces.contract.family import Candidate
from spaces.contract.space import Value

logger = logging.getLogger(f"dynafront.{__name__}")

Floats = NDArray[np.float64]
DRAWN, CONSIDERED = (
    80,
    130,
)  # candidates: drawn from the space, and with those that are good ones changed a little
PICKED = 16  # of them are suggested at most
TRIED = 50  # of them, the best first, until one is within the study's limits
KEPT = 0.5  # of a good one's values


@dataclass(frozen=True)
class Draft:
    """A candidate that may be asked for."""

    params: dict[str, Value]
    candidate: Candidate
    size: tuple[float, ...]  # what its baseline costs, in shares of the reference point


class Growth:
    """Expected growth of the front, by a forest over all trainings' curves."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._shares = growth.shares(setting.costs)
        self._encoder = growth.Encoder(setting.spaces)
        self._losses: dict[
            int, dict[int, Floats]
        ] = {}  # (S,) within each share, by trial and epoch
        self._sizes: dict[int, tuple[float, ...]] = {}  # of the trials' baselines
        self._known = KnownTrials()
        # so many more drafts are needed as more suggestions are made of them
        self._times = ceil(setting.together / PICKED)

    def observe(self, number: int, training: Training) -> None:
        if training.curve is None:
            self._losses.pop(number, None)
            return
        relative = training.curve / np.array([1.0, *self._size(number, training.params)])
        losses = np.minimum(losses_within(relative, self._shares), 1.0)
        self._losses.setdefault(number, {})[training.epoch] = losses

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        if not given and (own := self._next(number, history, epochs)) is not None:
            return own
        return complete_params(number, given or {}, self.setting)

    def _next(self, number: int, history: History, epochs: Epochs) -> Params | None:
        """The best candidate, or the next of those that were found together, with all parameters that matter."""
        ahead = self.setting.ahead
        if not ahead:
            draw = np.random.default_rng((self.setting.seed, number))
            ahead.extend(self._best(draw, history, epochs))
        return ahead.popleft() if ahead else None

    def _best(self, draw: np.random.Generator, history: History, epochs: Epochs) -> list[Params]:
        """The candidates with the largest expected growth per epoch, within the limits, as many as are due.

        Before there is anything to learn from, any candidates.
        """
        measured = history.measured_trials()
        seen = trainings_to_learn_from(measured, self._known.fronts)
        learned = len(seen) >= STARTUP
        good = self._good(seen, history) if learned else []
        drafts = self._drafts(draw, epochs, [seen[number].params for number in good])
        if learned and drafts:
            improvement = self._expected_improvement(draw, drafts, seen, history)
            drafts = [drafts[i] for i in np.argsort(-improvement, kind="stable")]
        fresh = self._fresh(drafts[: TRIED * self._times], self._known.asked(history))
        return list(islice(fresh, self.setting.together))

    def _fresh(self, drafts: Sequence[Draft], asked: set[tuple[Key, bool]]) -> Iterator[Params]:
        """Of the drafts that were not asked for yet, those within the limits."""
        for one in drafts:
            key = key_of(one.params), self._is_full(one.candidate)
            if key not in asked and not self.setting.limit(one.candidate):
                asked.add(key)
                yield one.params

    def _budgets(self, history: History) -> Floats:
        """(B, K) budgets of costs at which curves are compared, within the region that counts."""
        return growth.budgets(self.setting.costs) * history.corner[1:]

    def _good(self, seen: Mapping[int, Training], history: History) -> list[int]:
        """The trials that are best within some budget."""
        at = growth.at_budgets(self._budgets(history), self._sizes_of(seen))
        losses_TB = np.take_along_axis(self._learned(seen), np.maximum(at, 0), 1)
        numbers = list(seen)
        return [numbers[i] for i in np.unique(np.where(at < 0, 1.0, losses_TB).argmin(0))]

    def _drafts(
        self, draw: np.random.Generator, epochs: Epochs, good: Sequence[Params]
    ) -> list[Draft]:
        """Drawn from the space, then good ones with some of their values drawn again; infeasible ones left out."""
        found = []
        for i in range(CONSIDERED * self._times):
            kept = good[i % len(good)] if good and i >= DRAWN * self._times else {}
            one = growth.Draw(draw, kept, KEPT)
            try:
                candidate = draw_candidate(one, self.setting.spaces, epochs)
                size = self.setting.size(candidate)
            except (
                ValueError
            ) as error:  # the family does not take the combination, then or once it is built
                logger.debug("a draft is left out: %s", error)
                continue
            found.append(Draft(one.params, candidate, tuple(size)))
        return found

    def _expected_improvement(
        self,
        draw: np.random.Generator,
        drafts: Sequence[Draft],
        seen: Mapping[int, Training],
        history: History,
    ) -> Floats:
        """(C,) expected improvement of the front by each candidate, per epoch that it takes."""
        sizes_CK, grid = np.array([one.size for one in drafts]), self._budgets(history)
        old = self._rows(
            [one.params for one in seen.values()],
            self._sizes_of(seen),
            [t.full for t in seen.values()],
        )
        new = self._rows(
            [one.params for one in drafts],
            sizes_CK,
            [self._is_full(one.candidate) for one in drafts],
        )
        mean_CS, std_CS = growth.predict_losses(
            old, self._learned(seen), new, int(draw.integers(2**31))
        )
        front = history.front_within(seen, grid)
        worst = float(history.corner[0])
        improvement = growth.expected_improvement(mean_CS, std_CS, sizes_CK, grid, front, worst)
        return improvement / [self.setting.epoch_cost(one.candidate) for one in drafts]

    def _rows(self, params: Sequence[Params], sizes_TK: Floats, full: Sequence[bool]) -> Floats:
        """What the forest knows of each: its parameters, its size and its length."""
        return self._encoder.rows(params, np.column_stack([np.log(sizes_TK), full]))

    def _learned(self, seen: Mapping[int, Training]) -> Floats:
        return learned_losses(seen, self._losses)

    def _sizes_of(self, seen: Mapping[int, Training]) -> Floats:
        return np.array([self._sizes[number] for number in seen])

    def _size(self, number: int, params: Params) -> tuple[float, ...]:
        if number not in self._sizes:
            candidate = draw_candidate(
                FixedTrial(dict(params)), self.setting.spaces, self.setting.short
            )
            self._sizes[number] = tuple(self.setting.size(candidate))
        return self._sizes[number]

    def _is_full(self, candidate: Candidate) -> bool:
        return candidate.recipe.epochs > self.setting.short(candidate.family.name)


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
