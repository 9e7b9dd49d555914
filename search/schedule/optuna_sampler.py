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
    """Thinks on a study in memory: on a database each parameter of a trial costs a commit and a read of all trials."""

    def __init__(self, setting: Setting, make: MakeSampler) -> None:
        self.setting, self._make = setting, make
        self._study = in_memory(1 + setting.costs)

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        setting = self.setting
        with quiet_experimental_warnings():
            self._study.sampler = self._make(trial_seed(setting.seed, number), setting.trials)
        return ask_params(self._study, setting, given)

    def observe(self, number: int, training: Training) -> None:
        if number == len(self._study.get_trials(deepcopy=False)):  # suggested in an earlier process
            fixed = replay_params(training.params, self.setting.spaces)
            trial = optuna.trial.create_trial(
                state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
            )
            self._study.add_trial(trial)
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


def ask_params(study: optuna.Study, setting: Setting, given: Params | None) -> Params:
    """The parameters of the study's next trial; those that are `given` are kept."""
    if given:
        study.enqueue_trial(dict(given))
    trial = study.ask()
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
