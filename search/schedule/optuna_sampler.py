"""Optuna's own samplers: they observe the one operating point that each training was made for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

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
    replay_params,
    trial_seed,
)
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
        self._earlier: dict[int, Training] = {}  # asked in an earlier process, not in the study yet

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        for earlier, training in sorted(self._earlier.items()):
            self._add(earlier, training.params)
            self._tell(earlier, training)
        self._earlier.clear()
        self._prepare(number)
        return ask_params(self._study, self.setting, given)

    def observe(self, number: int, training: Training) -> None:
        if number >= len(self._study.get_trials(deepcopy=False)):
            self._earlier[number] = training
        else:
            self._tell(number, training)

    def _prepare(self, number: int) -> None:
        with quiet_experimental_warnings():
            seed = trial_seed(self.setting.seed, number)
            self._study.sampler = self._make(seed, self.setting.trials)

    def _add(self, number: int, params: Params) -> None:
        if self._marks and number >= self.setting.given:
            self._prepare(number)
            ask_params(self._study, self.setting, params, choose=True)
            return
        fixed = replay_params(params, self.setting.spaces)
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
        study.enqueue_trial(dict(given))
    trial = study.ask()
    if choose:
        _ = trial.relative_params
    with suppress(InfeasibleError):  # the caller finds out from the same parameters
        draw_candidate(trial, setting.spaces, setting.short)
    return trial.params


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
