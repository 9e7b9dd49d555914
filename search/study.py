"""Optuna's side of a study: a database that Optuna's own tools can read, behind what samplers think in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import zip_longest

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search.curves import Curve
from search.sampling import Refused, RefusedError, Thinker, drawn, experimental
from spaces.family import Candidate
from spaces.space import Dimension
from storage.records import TrialRecord


class OptunaStudy:
    """An Optuna study over families' spaces: maximises accuracy, minimises costs.

    Samplers think on a copy in memory: on a database each of a trial's dozen parameters costs a commit and a read of
    all trials. The database is a mirror, written by a thread in the order of asking and telling, so that Optuna's own
    tools read a complete study; what it missed when the process died is made up for from `stored` trials.

    A trial that was stopped early is running in the mirror until the study is closed, for it may go on; then it is
    pruned, with the operating point that stands for it as a user attribute.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        thinker: Thinker,
        *,
        metrics: Sequence[str],
        stored: Sequence[TrialRecord] = (),
    ) -> None:
        """`metrics` are accuracy and the costs by name; `stored` the study's searched trials by number, as our tables
        know them.
        """
        self.thinker, self.spaces, self.metrics = thinker, thinker.spaces, tuple(metrics)
        self.study = _created(name, storage, self.metrics)
        _check_choices(name, self.study, self.spaces)
        for record in stored[len(self.study.get_trials(deepcopy=False)) :]:
            self.study.add_trial(self._replayed(record))
        trials = self.study.get_trials(deepcopy=False)
        for trial, record in zip_longest(trials, stored):
            thinker.add(trial, full=record is not None and record.epochs > thinker.epochs(record.family))
        self._over = {trial.number for trial in trials if trial.state.is_finished()}  # in the mirror
        self._stopped: dict[int, tuple[int, tuple[float, ...]]] = {}
        self._mirror = ThreadPoolExecutor(1, "optuna")
        self._written: list[Future[object]] = []
        self._broken = False
        self._thinking = ThreadPoolExecutor(1, "sampler")
        self._ahead: Future[tuple[int, Candidate | Refused]] | None = None

    def ask(self) -> tuple[int, Candidate | Refused]:
        """The next trial's number and candidate, or why what was drawn cannot be one."""
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else self.thinker.ask()

    def ask_ahead(self) -> None:
        """Think of the next trial while others train: it knows what was told so far, whatever the speed."""
        if self._ahead is None:
            self._ahead = self._thinking.submit(self.thinker.ask)

    def _replayed(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        """A stored trial as Optuna would have recorded it when it was asked."""
        params = {f"{record.family}.{name}": value for name, value in record.params.items()}
        fixed = optuna.trial.FixedTrial({"family": record.family, **params})
        with suppress(RefusedError):
            drawn(fixed, self.spaces, lambda _: record.epochs)
        return optuna.trial.create_trial(
            state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
        )

    def confirm(self, number: int) -> None:
        """The trial is in our tables: mirror it."""
        trial = copy.copy(self.thinker.frozen(number))
        self._write(lambda: self.study.add_trial(trial))

    def look(self, number: int, epoch: int, curve: Curve, chosen: Sequence[float], *, ended: bool = False) -> None:
        """A training's operating points after an epoch, at its end or on the way; `chosen` is what it was made for."""
        self._let_think()
        self.thinker.look(number, epoch, curve, chosen, ended=ended)

    def rival(self, curve: Curve) -> None:
        """The operating points of a plain network, which trials must beat."""
        self._let_think()
        self.thinker.plain.append(curve)

    def tell(self, number: int, values: Sequence[float]) -> None:
        """The trial is over: its accuracy and costs; told again it stays as it was."""
        self._let_think()
        self.thinker.finish(number)
        self._stopped.pop(number, None)
        if number not in self._over:
            self._write(lambda: self.study.tell(number, list(values), skip_if_finished=True))

    def stop(self, number: int, epoch: int, values: Sequence[float]) -> None:
        """The trial was stopped after this epoch; it may go on later."""
        self._let_think()
        self.thinker.finish(number)
        self._stopped[number] = epoch, tuple(values)

    def fail(self, number: int) -> None:
        """The trial ended without a result."""
        self._let_think()
        self.thinker.fail(number)
        self._stopped.pop(number, None)
        if number not in self._over:
            self._write(lambda: self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True))

    def unfinished(self) -> list[int]:
        """Numbers of trials that were asked and neither told nor failed."""
        return self.thinker.running()

    def asked(self) -> int:
        return self.thinker.asked

    def _let_think(self) -> None:
        # a result that came in halfway would make the next candidate depend on who was faster
        if self._ahead is not None:
            wait([self._ahead])

    def close(self) -> None:
        """Wait until the database holds everything. Raises what a write raised."""
        self._thinking.shutdown()
        for number, (epoch, values) in sorted(self._stopped.items()):
            if number in self._over:
                continue
            self._write(lambda n=number, e=epoch, v=values: self._prune(n, e, v))  # type: ignore[misc]
        self._mirror.shutdown()
        self._check()

    def _prune(self, number: int, epoch: int, values: Sequence[float]) -> None:
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return
        found = dict(zip(self.metrics, values, strict=True)) | {"epoch": epoch}
        self.study._storage.set_trial_user_attr(trial._trial_id, "stopped", found)
        self.study.tell(number, state=TrialState.PRUNED)

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


def _created(name: str, storage: optuna.storages.BaseStorage, metrics: Sequence[str]) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(metrics) - 1)],
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    with experimental():
        study.set_metric_names(list(metrics))
    return study
