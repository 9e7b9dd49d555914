"""A study as MLflow shows it: a copy of our tables that can be made again at any time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from search.front.eligible import ON_OFFER
from search.front.stored import StudyFront, study_front, study_majority
from search.objectives import Reference
from search.run.lease import is_driven
from search.run.point_run import cost_measure, point_measures, point_runs
from search.run.study_run import front_artifacts, front_history, front_note
from search.run.trial_run import (
    KIND_TAGS,
    execution_params,
    shown_point,
    trial_artifacts,
    trial_measures,
    trial_tags,
)
from search.run.varied_params import varied_params
from search.spec import StudySpec, stored_spec
from storage.errors import StorageError, TakenOverError
from storage.measure_names import validation
from storage.mlflow_log import MlflowLog
from storage.records import TRAININGS, Kind, PointRecord, State, StudyRecord
from storage.settings import Settings
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")


class View:
    """A study as MLflow shows it; every method writes what our tables hold and can be repeated.

    What was deleted in MLflow is brought back, or made anew. `running`: whether the study is being searched.
    """

    def __init__(
        self, store: Store, settings: Settings, spec: StudySpec, *, running: bool = True
    ) -> None:
        self.store, self.settings, self.spec = store, settings, spec
        self._running = running
        self._log: MlflowLog | None = None
        self._experiment = self._parent = ""
        # by training that is, or was, on the front: the point that its run shows
        self._shown: dict[tuple[Kind, int], int | None] = {}

    def open(self) -> None:
        """Find or make the experiment and the study's run."""
        if self._log is not None:
            return
        log = MlflowLog(self.settings)
        record = self._study()
        spec = self.spec
        params = {
            "data": spec.data,
            "families": ", ".join(spec.families),
            "sampler": spec.sampler,
            "seed": spec.seed,
        }
        params |= {f"budget.{k}": v for k, v in spec.budget.model_dump().items() if v is not None}
        params["objectives"] = ", ".join(spec.objectives)
        self._experiment, self._parent = log.open_study(
            spec.study, text=record.text, params=params, tags={}, running=self._running
        )
        log.write_saved_views(
            self._experiment,
            varied_params(spec),
            cost_measure(spec.cost),
            validation(spec.metric.label),
            f"val/{spec.metric.name}",
            spec.study,
        )
        if (record.experiment_id, record.run_id) != (self._experiment, self._parent):
            if record.run_id:  # another MLflow than before: nothing of what was logged is there
                logger.info(
                    "MLflow has no run %s of %s: all is logged again", record.run_id, spec.study
                )
                self.store.unpublish(spec.study)
            self.store.set_study_run(spec.study, self._experiment, self._parent)
        if log.is_outdated(self._parent):
            self.store.unpublish(spec.study)
        self._log = log
        self._bring_back()

    @property
    def log(self) -> MlflowLog:
        self.open()
        assert self._log is not None
        return self._log

    def _bring_back(self) -> None:
        """Let what was deleted in MLflow appear again; what is gone for good counts as not shown."""
        study = self.spec.study
        shown = {t.run_id: t for t in self.store.trials(study, results=False) if t.run_id}
        known = {run: (KIND_TAGS[t.kind], str(t.number)) for run, t in shown.items()}
        for run in self.log.reconcile(self._experiment, study, known):
            trial = shown[run]
            logger.info("MLflow has no run of %s %d", TRAININGS[trial.kind], trial.number)
            self.store.set_run(study, trial.kind, trial.number, None, published=False)

    def _reopen(self) -> None:
        self._log = None
        self.open()

    def _repeated(self, action: Callable[[], None]) -> None:
        """Do it; where MLflow refuses, once more, after what was deleted there meanwhile was brought back."""
        self.open()
        try:
            action()
        except TakenOverError:
            raise
        except StorageError as error:
            logger.info("%s", error)
            self._reopen()
            action()

    def show_trial(self, kind: Kind, number: int) -> None:
        """The run of one trial: parameters, curves, operating points, gate rates."""
        self._repeated(lambda: self._write_trial(kind, number))

    def _write_trial(self, kind: Kind, number: int) -> None:
        log, study = self.log, self.spec.study
        trial = self.store.trial(study, kind, number)
        if trial.state == State.RUNNING:
            return
        logger.debug("showing %s %d of %s in MLflow", TRAININGS[kind], number, study)
        epochs = self.store.epochs(study, kind, number)
        source = number if trial.of_trial is None else trial.of_trial
        points = self.store.points(study, kind=kind, number=source)
        run_id = log.log_trial(
            self._experiment,
            self._parent,
            name=f"{TRAININGS[kind]}-{number:04d}",
            params={
                "family": trial.family,
                **trial.params,
                "seed": trial.seed,
                "epochs": trial.epochs,
                **execution_params(trial),
            },
            tags=trial_tags(trial),
            metrics=trial_measures(trial, points),
            curves=[(e.epoch, dict(e.metrics)) for e in epochs],
            artifacts=trial_artifacts(trial, points, [(e.epoch, e.gate_rates) for e in epochs]),
            start=trial.started_at,
            end=trial.finished_at,
            state=trial.state,
        )
        self.store.set_run(study, trial.kind, number, run_id)
        self._shown.pop((trial.kind, number), None)  # this run shows what it was trained for

    def show_front(self) -> None:
        """The parent run: hypervolume over trials, the front as page, picture, table and note, who is on it."""
        self._repeated(self._write_front)

    def _write_front(self) -> None:
        log, study = self.log, self.spec.study
        record, trials = self._study(), self.store.trials(study, results=False)
        front = study_front(self.store, record)
        majority = study_majority(self.store, record)
        points = log.log_points(
            self._experiment, self._parent, study, point_runs(front, self.spec.cost)
        )
        on_front = {p.training for p in front.members}
        runs = {(t.kind, t.number): t.run_id for t in trials if t.kind in ON_OFFER and t.run_id}
        log.log_front(
            self._experiment,
            self._parent,
            metrics=front_history(front.points, self.spec.cost, Reference(**record.reference)),
            artifacts=front_artifacts(study, front, majority),
            note=front_note(
                study,
                front,
                self.spec.cost,
                experiment=self._experiment,
                run=self._parent,
                charts=log.view_path(self._experiment),
                runs=points,
                page=log.page_path(study),
                majority=majority,
            ),
            members={run: training in on_front for training, run in runs.items()},
        )
        self._write_shown(front, runs)

    def _write_shown(self, front: StudyFront, runs: Mapping[tuple[Kind, int], str]) -> None:
        """Trials on the front show what they do at their point there, not at the setting they were trained for."""
        points: dict[tuple[Kind, int], list[PointRecord]] = {}
        for p in front.points:
            points.setdefault(p.training, []).append(p)
        on_front = {p.training for p in front.members}
        for training in (on_front | self._shown.keys()) & runs.keys():
            point = shown_point(points.get(training, ()), front.members)
            if point is not None and self._shown.get(training) != point.id:
                self.log.log_measures(runs[training], point_measures(point))
                self._shown[training] = point.id

    def show_missed(self) -> int:
        """Every finished trial that MLflow does not show yet, and the front when there was one; returns how many.

        A study's cascades have no run but those of their points.
        """
        self._reopen()
        missed = [
            t
            for t in self.store.trials(self.spec.study, results=False)
            if t.state != State.RUNNING and not t.published and t.kind != Kind.CASCADE
        ]
        for trial in missed:
            self.show_trial(trial.kind, trial.number)
        if missed:
            self.show_front()
        return len(missed)

    def close(self) -> None:
        self.log.finish_study(self._parent)

    def _study(self) -> StudyRecord:
        return self.store.study(self.spec.study)


def sync_study(
    store: Store, settings: Settings, record: StudyRecord, *, everything: bool = False
) -> int:
    """Bring MLflow up to date with one study; returns how many trials were logged. Raises what MLflow raises."""
    if everything:
        store.unpublish(record.name)
    view = View(store, settings, stored_spec(record.spec))
    count = view.show_missed()
    if not count:
        view.show_front()
    if not is_driven(store.study(record.name)):  # whoever drives it says when it has ended
        view.close()
    return count
