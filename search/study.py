"""Optuna's side of a study: asks for candidates, is told one pair (accuracy, cost) a training.

The only module that knows Optuna. Samplers are made anew for each trial from (study seed, trial number), so a resumed
study goes on as an uninterrupted one would and never replays its start-up trials.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from spaces.family import Candidate
from spaces.registry import family
from spaces.space import Dimension, Value, suggested
from storage.records import TrialRecord

STARTUP = 8  # random trials before a model-based sampler models


@dataclass(frozen=True)
class Refused:
    """A drawn combination that its family refuses, and why."""

    family: str
    params: dict[str, Value]
    reason: str


class _RefusedError(ValueError):
    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


class OptunaStudy:
    """An Optuna study over families' spaces: maximises accuracy, minimises cost.

    Samplers think on a copy in memory: on a database each of a trial's dozen parameters costs a commit and a read of
    all trials. The database is a mirror, written by a thread in the order of asking and telling, so that Optuna's own
    tools read a complete study; what it missed when the process died is made up for from `stored` trials.
    """

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
        stored: Sequence[TrialRecord] = (),
    ) -> None:
        """`stored` are the study's searched trials by number, as our tables know them."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spaces, self.epochs, self.trials = spaces, epochs, trials
        self.sampler_name, self.seed = sampler, seed
        self.study = _created(name, storage)
        self._memory = _created(name, optuna.storages.InMemoryStorage())
        _check_choices(name, self.study, spaces)
        for record in stored[len(self.study.get_trials(deepcopy=False)) :]:
            self.study.add_trial(self._replayed(record))
        for trial in self.study.get_trials():
            self._memory.add_trial(trial)
        self._mirror = ThreadPoolExecutor(1, "optuna")
        self._written: list[Future[object]] = []
        self._broken = False
        self._thinker = ThreadPoolExecutor(1, "sampler")
        self._ahead: Future[tuple[int, Candidate | Refused]] | None = None

    def ask(self) -> tuple[int, Candidate | Refused]:
        """The next trial's number and candidate, or why what was drawn cannot be one."""
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else self._thought()

    def ask_ahead(self) -> None:
        """Think of the next trial while others train: it knows what was told so far, whatever the speed."""
        if self._ahead is None:
            self._ahead = self._thinker.submit(self._thought)

    def _thought(self) -> tuple[int, Candidate | Refused]:
        number = self.asked()
        self._memory.sampler = sampler(self.sampler_name, trial_seed(self.seed, number), self.trials)
        trial = self._memory.ask()
        assert trial.number == number
        try:
            return number, self._drawn(trial)
        except _RefusedError as error:
            return number, error.refused

    def _drawn(self, trial: optuna.trial.BaseTrial) -> Candidate:
        names = sorted(self.spaces)
        name = trial.suggest_categorical("family", names) if len(names) > 1 else names[0]
        values = suggested(trial, self.spaces[name], name)
        try:
            return Candidate.of(family(name), values, self.epochs)
        except ValueError as error:
            raise _RefusedError(Refused(name, values, str(error))) from None

    def _replayed(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        """A stored trial as Optuna would have recorded it when it was asked."""
        params = {f"{record.family}.{name}": value for name, value in record.params.items()}
        fixed = optuna.trial.FixedTrial({"family": record.family, **params})
        with suppress(_RefusedError):
            self._drawn(fixed)
        return optuna.trial.create_trial(
            state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
        )

    def confirm(self, number: int) -> None:
        """The trial is in our tables: mirror it."""
        trial = copy.copy(self._memory.get_trials(deepcopy=False)[number])
        self._write(lambda: self.study.add_trial(trial))

    def tell(self, number: int, accuracy: float, cost: float) -> None:
        """The trial's result; told again it stays as it was."""
        self._let_think()
        self._memory.tell(number, [accuracy, cost], skip_if_finished=True)
        self._write(lambda: self.study.tell(number, [accuracy, cost], skip_if_finished=True))

    def fail(self, number: int) -> None:
        """The trial ended without a result."""
        self._let_think()
        self._memory.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        self._write(lambda: self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True))

    def unfinished(self) -> list[int]:
        """Numbers of trials that were asked and neither told nor failed."""
        return [t.number for t in self._memory.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def asked(self) -> int:
        return len(self._memory.get_trials(deepcopy=False))

    def _let_think(self) -> None:
        # a result that came in halfway would make the next candidate depend on who was faster
        if self._ahead is not None:
            wait([self._ahead])

    def close(self) -> None:
        """Wait until the database holds everything. Raises what a write raised."""
        self._thinker.shutdown()
        self._mirror.shutdown()
        self._check()

    def _write(self, action: Callable[[], object]) -> None:
        self._check()
        self._written.append(self._mirror.submit(self._unless_broken, action))

    def _unless_broken(self, action: Callable[[], object]) -> None:
        # after one that failed, a later write would give its trial the number of the one that is missing
        if self._broken:
            return
        try:
            action()
        except Exception:
            self._broken = True
            raise

    def _check(self) -> None:
        while self._written and self._written[0].done():
            self._written.pop(0).result()


def _check_choices(name: str, study: optuna.Study, spaces: Mapping[str, tuple[Dimension, ...]]) -> None:
    """Refuse, in one line, a study from when a dimension had other choices: Optuna's tables cannot mix the two."""
    now = {f"{family_name}.{d.name}": d for family_name, space in spaces.items() for d in space}
    for trial in study.get_trials(deepcopy=False):
        for parameter, then in trial.distributions.items():
            if not isinstance(then, optuna.distributions.CategoricalDistribution) or parameter not in now:
                continue
            if now[parameter].kind != "choice" or tuple(then.choices) != tuple(now[parameter].choices):
                choices = ", ".join(map(str, then.choices))
                raise ValueError(
                    f"study {name} was begun when {parameter} had the choices {choices}; this version has others. Its "
                    "front and models stay; give the file another `study:` name to search on"
                )


def _created(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize", "minimize"],
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    with _experimental():
        study.set_metric_names(["accuracy", "cost"])
    return study


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
