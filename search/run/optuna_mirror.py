"""Optuna's side of a study: a database that Optuna's own tools can read. It follows our tables, which are the truth."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from search.run.optuna_tables import Begin, End, commit_without_sync, writer_of
from search.schedule.history import Params
from search.schedule.sampler import params_of, quiet_experimental_warnings, replay_params
from search.spec import StudySpec, narrowed_spaces
from spaces.contract.space import Dimension
from storage.creation_lock import creating
from storage.database import PATIENCE, end_idle
from storage.errors import StorageError, error_line
from storage.fence import Fence
from storage.records import Kind, TrialRecord
from storage.store import Store
from storage.urls import sqlite_file

POINTS = "operating points"  # user attribute of a trial: those that none of its others beats
AGAIN_SECONDS = 2.0  # between two tries to reach a server that went away

logger = logging.getLogger(f"dynafront.{__name__}")


class OptunaMirror:
    """An Optuna study over families' spaces: maximises accuracy, minimises costs.

    It is written by a thread, in the order of what happened, all that waits in one transaction; what it missed when
    the process died is made up for from `stored` trials. A trial that was stopped early is running here until the study
    is closed, for it may go on; then it is pruned, with the operating point that represents it as a user attribute.
    """

    gather = 0.0  # seconds that a write waits for others, to be one transaction with them

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        spaces: Mapping[str, tuple[Dimension, ...]],
        *,
        metrics: Sequence[str],
        stored: Sequence[TrialRecord] = (),
        fence: Fence | None = None,
    ) -> None:
        """`metrics` are accuracy and the costs by name; `stored` the study's searched trials by number, as our tables
        know them. A write that the `fence` does not let pass raises TakenOverError.
        """
        self.spaces, self.metrics = spaces, tuple(metrics)
        self.study = _created(name, storage, self.metrics)
        # the storage as the study sees it: with a cache before the tables
        self._writer = writer_of(self.study._storage, self.study._study_id, fence)
        _check_choices(name, self.study, spaces)
        for record in stored[len(self.study.get_trials(deepcopy=False)) :]:
            self.study.add_trial(self._frozen(params_of(record.family, record.params, spaces)))
        trials = self.study.get_trials(deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in trials}  # in Optuna's tables
        self._added = len(trials)
        self.unknown = {t.number: t.params for t in trials[len(stored) :]}  # to our tables
        self._over = {trial.number for trial in trials if trial.state.is_finished()}
        self._stopped: dict[int, tuple[int, tuple[float, ...]]] = {}
        self._thread = ThreadPoolExecutor(1, "optuna")
        self._waiting: deque[Begin | End] = deque()
        self._written: deque[Future[object]] = deque()
        self._broken = False

    def add(self, family: str, values: Mapping[str, object]) -> None:
        """A trial was suggested, and is in our tables."""
        trial = self._frozen(params_of(family, values, self.spaces))  # type: ignore[arg-type]
        number, self._added = self._added, self._added + 1
        self._write(Begin(number, trial))

    def tell(
        self, number: int, values: Sequence[float], points: Sequence[Mapping[str, float]] = ()
    ) -> None:
        """The trial is over: its accuracy and costs, and those of the `points` of its own front.

        A second call changes nothing.
        """
        self._stopped.pop(number, None)
        if number not in self._over:
            shown = {POINTS: [dict(point) for point in points]} if points else {}
            self._write(End(number, TrialState.COMPLETE, values, shown))

    def stop(self, number: int, epoch: int, values: Sequence[float]) -> None:
        """The trial was stopped after this epoch; it may go on later."""
        self._stopped[number] = epoch, tuple(values)

    def fail(self, number: int) -> None:
        """The trial ended without a result."""
        self._stopped.pop(number, None)
        if number not in self._over:
            self._write(End(number, TrialState.FAIL))

    def close(self) -> None:
        """Wait until the database holds everything. Raises what a write raised."""
        for number, (epoch, values) in sorted(self._stopped.items()):
            if number not in self._over:
                found = dict(zip(self.metrics, values, strict=True)) | {"epoch": epoch}
                self._write(End(number, TrialState.PRUNED, shown={"stopped": found}))
        self._thread.shutdown()
        self._check()

    def _frozen(self, params: Params) -> FrozenTrial:
        """A trial as Optuna would have recorded it when it was suggested."""
        fixed = replay_params(params, self.spaces)
        return optuna.trial.create_trial(
            state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
        )

    def _write(self, change: Begin | End) -> None:
        self._check()
        self._waiting.append(change)
        self._written.append(self._thread.submit(self._write_waiting))

    def _write_waiting(self) -> None:
        """Write all that waits; nothing after a write that failed.

        A later one would give its trial the number of the one that is missing.
        """
        if self._waiting and self.gather:
            time.sleep(self.gather)
        count = len(self._waiting) if self._writer.transactions else 1
        changes = [self._waiting.popleft() for _ in range(count)]
        if self._broken or not changes:
            return
        try:
            self._ids |= _repeated(lambda: self._writer.write(changes, self._ids))
        except Exception as error:
            self._broken = True
            raise _as_told(error) from error

    def _check(self) -> None:
        while self._written and self._written[0].done():
            self._written.popleft().result()


def _repeated(action: Callable[[], dict[int, int]]) -> dict[int, int]:
    """Do it; again for as long as PATIENCE where the database's server went away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except (StorageInternalError, DBAPIError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            lost = isinstance(cause, DBAPIError) and (
                cause.connection_invalidated or "connection" in str(cause.orig)
            )
            if not lost or time.monotonic() > deadline:
                raise
            logger.warning("Optuna's database went away, once more: %s", cause)
            time.sleep(AGAIN_SECONDS)


def _as_told(error: Exception) -> Exception:
    """What a database said, in one line as for our own tables; anything else as it is."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, DBAPIError):
        return error
    return StorageError(f"Optuna's tables: {error_line(cause)}")


def _check_choices(
    name: str, study: optuna.Study, spaces: Mapping[str, tuple[Dimension, ...]]
) -> None:
    """Raise ValueError for a study from when a dimension had other choices: Optuna's tables cannot mix the two."""
    now = {f"{family_name}.{d.name}": d for family_name, space in spaces.items() for d in space}
    for trial in study.get_trials(deepcopy=False):
        for parameter, then in trial.distributions.items():
            if (
                not isinstance(then, optuna.distributions.CategoricalDistribution)
                or parameter not in now
            ):
                continue
            if now[parameter].kind != "choice" or tuple(then.choices) != tuple(
                now[parameter].choices
            ):
                choices = ", ".join(map(str, then.choices))
                raise ValueError(
                    f"study {name} was begun when {parameter} had the choices {choices}; this version has others. Its "
                    "front and models stay; give the file another `study:` name to search on"
                )


def _created(
    name: str, storage: optuna.storages.BaseStorage, metrics: Sequence[str]
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(metrics) - 1)],
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    with quiet_experimental_warnings():
        study.set_metric_names(list(metrics))
    return study


def optuna_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's tables in the database at `url`; another program that holds it is waited for as long as for ours."""
    # its own five seconds would end a search
    if sqlite_file(url):
        settings: dict[str, Any] = {"connect_args": {"timeout": PATIENCE}}
    else:
        settings = {"pool_pre_ping": True}  # a server may have hung up since
    storage = optuna.storages.RDBStorage(url, engine_kwargs=settings)
    if sqlite_file(url):
        commit_without_sync(storage.engine)
    else:
        event.listen(storage.engine, "connect", end_idle)
        storage.engine.dispose()  # connections from before
    return storage


def mirror_for(storage: optuna.storages.BaseStorage, store: Store, spec: StudySpec) -> OptunaMirror:
    """The study on Optuna's side, made or brought in line with our tables."""
    metrics = spec.objectives
    stored = store.trials(spec.study, kind=Kind.SEARCH)
    return OptunaMirror(
        storage,
        spec.study,
        narrowed_spaces(spec),
        metrics=metrics,
        stored=stored,
        fence=store.fence,
    )


def delete_mirror(url: str, name: str) -> None:
    """Delete Optuna's study of this name, if there is one."""
    with creating(url):
        storage = optuna_storage(url)
    known = {study.study_name for study in storage.get_all_studies()}
    if name in known:
        optuna.delete_study(study_name=name, storage=storage)
