"""Optuna's side of a study: asks for candidates, is told one pair (accuracy, cost) a training.

The only module that knows Optuna. Samplers are made anew for each trial from (study seed, trial number), so a resumed
study goes on as an uninterrupted one would and never replays its start-up trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import optuna
from optuna.trial import TrialState

from spaces.family import Candidate
from spaces.registry import family
from spaces.space import Dimension

STARTUP = 8  # random trials before a model-based sampler models


class OptunaStudy:
    """An Optuna study over families' spaces: maximises accuracy, minimises cost."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        *,
        spaces: Mapping[str, tuple[Dimension, ...]],
        sampler: str,
        seed: int,
        epochs: int,
        trials: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spaces, self.sampler_name, self.seed, self.epochs, self.trials = (
            spaces, sampler, seed, epochs, trials,
        )  # fmt: skip
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize", "minimize"],
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=seed),
        )
        with _experimental():
            self.study.set_metric_names(["accuracy", "cost"])

    def ask(self) -> tuple[int, Candidate]:
        """The next trial's number and candidate."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = sampler(self.sampler_name, trial_seed(self.seed, number), self.trials)
        trial = self.study.ask()
        names = sorted(self.spaces)
        name = trial.suggest_categorical("family", names) if len(names) > 1 else names[0]
        candidate = Candidate.suggested(trial, family(name), self.spaces[name], self.epochs)
        return trial.number, candidate

    def tell(self, number: int, accuracy: float, cost: float) -> None:
        """The trial's result; told again it stays as it was."""
        self.study.tell(number, [accuracy, cost], skip_if_finished=True)

    def fail(self, number: int) -> None:
        """The trial ended without a result."""
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def unfinished(self) -> list[int]:
        """Numbers of trials that were asked and neither told nor failed."""
        return [t.number for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def asked(self) -> int:
        return len(self.study.get_trials(deepcopy=False))


def sampler(name: str, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A sampler by the name that study files use, seeded."""
    with _experimental():
        if name == "tpe":
            return optuna.samplers.TPESampler(
                multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
            )
        if name == "nsgaii":
            # a population of 50 (Optuna's default) is random search for most of a study of this size
            return optuna.samplers.NSGAIISampler(population_size=max(4, min(20, trials // 4)), seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
    return optuna.samplers.RandomSampler(seed=seed)


@contextmanager
def _experimental() -> Iterator[None]:
    """Quiet about what Optuna marks experimental and we chose knowingly: group TPE, GP, metric names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def trial_seed(study_seed: int, number: int) -> int:
    """A seed for one trial: far from its neighbours', below 2^31."""
    mixed = (study_seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 29)) % (2**31 - 1)
