"""What a sampler can be told of a training, tried on the table: Optuna's TPE on one number a training.

Which number is best changes with the front, so that all of them are told anew before each candidate. The point that a
training is made for, told once, is the sampler `tpe`; the product's own signal is in search.schedule.growth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna

from benchmarks.search_bench.ours import Ours
from benchmarks.search_bench.world import World
from search.front.curves import (
    NOTHING,
    Curve,
    contributions,
    inside,
    layers,
    losses_within,
    own_front,
)
from search.schedule.history import History, Params, Training
from search.schedule.optuna_sampler import ask_params, complete_params, tpe
from search.schedule.sampler import Epochs, Setting, quiet_experimental_warnings, replay_params


class Signal:
    """A sampler: TPE with one objective chooses."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._thought: Params | None = None

    def values(self, history: History, draw: np.random.Generator) -> dict[int, float]:
        """What TPE is told of each training by its number; less is better."""
        raise NotImplementedError

    def observe(self, number: int, training: Training) -> None:
        """All that counts is in the history."""

    def think_ahead(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> None:
        if self._thought is None:
            self._thought = self._suggested(number, history, given)

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        thought, self._thought = self._thought, None
        return self._suggested(number, history, given) if thought is None else thought

    @property
    def ready(self) -> bool:
        return True

    def settle(self) -> None:
        """It thinks at once."""

    def close(self) -> None:
        """It holds nothing."""

    def _suggested(self, number: int, history: History, given: Params | None) -> Params:
        draw = np.random.default_rng((self.setting.seed, number))
        return complete_params(number, given or self._chosen(history, draw), self.setting)

    def _chosen(self, history: History, draw: np.random.Generator) -> Params:
        with quiet_experimental_warnings():
            study = optuna.create_study(sampler=tpe(int(draw.integers(2**31)), self.setting.trials))
        for number, value in self.values(history, draw).items():
            past = replay_params(history.trials[number].params, self.setting.spaces)
            study.add_trial(
                optuna.trial.create_trial(
                    value=value, params=past.params, distributions=past.distributions
                )
            )
        return ask_params(study, self.setting, None)


class Contribution(Signal):
    """What the front would lose without the training; of those it would not miss, how many layers they lie behind it.

    Hypervolume contribution: Emmerich, Beume and Naujoks, "An EMO algorithm using the hypervolume measure as selection
    criterion", EMO, 2005; of all a training's points where that is of one.
    """

    def values(self, history: History, draw: np.random.Generator) -> dict[int, float]:
        if not (known := curves_of(history)):
            return {}
        curves = {number: own_front(inside(curve)) for number, curve in known.items()}
        lost, layer = contributions(curves, list(curves)), layers(curves)
        return {
            number: -lost[number] if lost[number] > NOTHING else layer[number] for number in curves
        }


class DrawnBudget(Signal):
    """The least accuracy loss within one budget of compute, drawn anew where the front has room to grow.

    Like Knowles, "ParEGO", IEEE Transactions on Evolutionary Computation, 2006, which draws one weighting of the
    objectives a step; here whole curves are compared, and the budget is more likely the wider the gap it falls in.
    """

    def values(self, history: History, draw: np.random.Generator) -> dict[int, float]:
        if not (known := curves_of(history)):
            return {}
        curves = list(known.values())
        budget = drawn_budget(np.concatenate(curves), draw)
        grid = np.array([[budget]])
        losses = [float(losses_within(curve, grid)[0]) for curve in curves]
        return dict(zip(known, losses, strict=True))


def curves_of(history: History) -> dict[int, Curve]:
    """The curve of each training, by trial."""
    return {
        number: one.curve
        for number, one in history.measured_trials().items()
        if one.curve is not None
    }


def drawn_budget(curve: Curve, draw: np.random.Generator) -> float:
    """A cost between two neighbours on the front, or one of them and the box's edge.

    A pair is drawn in proportion to the rectangle between the two: what a point in there could add at most.
    """
    front = own_front(inside(curve))
    costs, losses = [0.0, *front[:, 1], 1.0], [1.0, *front[:, 0], 0.0]
    gap = np.diff(costs) * -np.diff(losses)
    at = int(draw.choice(len(gap), p=gap / gap.sum()))
    return float(draw.uniform(costs[at], costs[at + 1]))


def signals() -> dict[str, Callable[[World], None]]:
    """Methods by name."""
    return {
        "dynafront: tpe on contribution (signal)": Ours(sampler=Contribution),
        "dynafront: tpe on a drawn budget (signal)": Ours(sampler=DrawnBudget),
    }
