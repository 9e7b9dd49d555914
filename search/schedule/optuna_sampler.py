"""Optuna's own samplers: they observe the one operating point that each training was made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import optuna
from optuna.trial import TrialState

from search.schedule.history import History, Params, Training
from search.schedule.sampler import (
    STARTUP,
    Epochs,
    InfeasibleError,
    Setting,
    draw_candidate,
    quiet_experimental_warnings,
    trial_seed,
)
from search.schedule.thinking_ahead import ThinkAhead
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Value
from storage.records import State

MakeSampler = Callable[[int, int], optuna.samplers.BaseSampler]  # from (seed, trials of the study)


class OptunaSampler:
    """Thinks on a study in memory: on a database each parameter of a trial costs a commit and a read of all trials.

    `marks`: the sampler marks each trial as it chooses its parameters, and learns only from marked ones. Trials of an
    earlier process are then chosen again, one after the other, and get the parameters that they had.
    """

    def __init__(self, setting: Setting, make: MakeSampler, *, marks: bool = False) -> None:
        self.setting, self._make, self._marks = setting, make, marks
        self._study = in_memory(1 + setting.costs)
        self._thinking = ThinkAhead[Params]()
        self._earlier: dict[int, Training] = {}  # asked in an earlier process, not in the study yet

    def think_ahead(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> None:
        self._thinking.start(partial(self._suggested, number, given))

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        return self._thinking.take(partial(self._suggested, number, given))

    def _suggested(self, number: int, given: Params | None) -> Params:
        for earlier, training in sorted(self._earlier.items()):
            self._add(earlier, training.params)
            self._tell(earlier, training)
        self._earlier.clear()
        self._prepare(number)
        return ask_params(self._study, self.setting, given)

    def observe(self, number: int, training: Training) -> None:
        self.settle()  # a report that came in halfway would change what is suggested
        if number >= len(self._study.get_trials(deepcopy=False)):
            self._earlier[number] = training
        else:
            self._tell(number, training)

    @property
    def ready(self) -> bool:
        return self._thinking.ready

    def settle(self) -> None:
        self._thinking.settle()

    def close(self) -> None:
        self._thinking.close()

    def _prepare(self, number: int) -> None:
        with quiet_experimental_warnings():
            seed = trial_seed(self.setting.seed, number)
            self._study.sampler = self._make(seed, self.setting.trials)

    def _add(self, number: int, params: Params) -> None:
        if self._marks and number >= self.setting.given:
            self._prepare(number)
            ask_params(self._study, self.setting, params, choose=True)
            return
        fixed = optuna.trial.FixedTrial({"family": "", **_placed(params, self.setting)})
        with suppress(InfeasibleError):
            draw_candidate(_Ordered(fixed), self.setting.spaces, self.setting.short)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
            )
        )

    def _tell(self, number: int, training: Training) -> None:
        if training.state == State.FAILED:
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        elif training.state != State.RUNNING:
            self._study.tell(number, training.chosen, skip_if_finished=True)


def in_memory(objectives: int) -> optuna.Study:
    """A study that minimises losses and forgets everything with the process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        directions=["minimize"] * objectives, sampler=optuna.samplers.RandomSampler(seed=0)
    )


def ask_params(
    study: optuna.Study, setting: Setting, given: Params | None, *, choose: bool = False
) -> Params:
    """The parameters of the study's next trial; those that are `given` are kept.

    Where all are given the sampler is asked for none, unless it is to `choose` all the same.
    """
    if given:
        study.enqueue_trial(_placed(given, setting))
    trial = study.ask()
    if choose:
        _ = trial.relative_params
    with suppress(InfeasibleError):  # the caller finds out from the same parameters
        draw_candidate(_Ordered(trial), setting.spaces, setting.short)
    return {
        name: sides[int(value)] if (sides := _sides(setting, name)) else value
        for name, value in trial.params.items()
    }


class _Ordered:
    """A trial in whose study the size of the images is a place among the sizes, so that larger means something."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if not _is_side(name):
            return self.trial.suggest_categorical(name, choices)
        return choices[self.trial.suggest_int(name, 0, len(choices) - 1)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trial, name)


def _is_side(name: str) -> bool:
    return name.rpartition(".")[2] == IMAGE_SIZE


def _sides(setting: Setting, name: str) -> tuple[Value, ...]:
    """The sizes of the images that a parameter of this name takes; of any other parameter none."""
    space = setting.spaces[name.rpartition(".")[0]] if _is_side(name) else ()
    return next((d.choices for d in space if d.name == IMAGE_SIZE), ())


def _placed(params: Params, setting: Setting) -> dict[str, Any]:
    """The parameters with each size of the images as its place."""
    return {
        name: sides.index(value) if (sides := _sides(setting, name)) else value
        for name, value in params.items()
    }


def complete_params(number: int, params: Params, setting: Setting) -> Params:
    """These parameters, and what they lack drawn at random."""
    study = in_memory(1)
    study.sampler = optuna.samplers.RandomSampler(seed=trial_seed(setting.seed, number))
    return ask_params(study, setting, params)


def tpe(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
    )


def nsgaii(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    # a population of 50 (Optuna's default) is random search for most of a study of this size
    return optuna.samplers.NSGAIISampler(population_size=max(4, min(20, trials // 4)), seed=seed)


def gp(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)


def random(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)
