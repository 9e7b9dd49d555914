"""Our tables, shown in MLflow: a view that can be rebuilt at any time and that never holds a trial up.

The publisher works in a thread of its own from a queue. When MLflow is away it says so once; what was missed stays
marked in our tables and `sync` brings it over.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import accumulate, groupby
from typing import Any

from search.front.eligible import ON_OFFER
from search.front.formats import as_csv
from search.front.stored import study_front, study_majority
from search.objectives import Cost, Reference
from search.report.text import described, describing_params, knobs_text
from search.spec import StudySpec, stored_spec
from storage.mlflow_log import MlflowLog
from storage.records import TRAININGS, Kind, PointRecord, State, StudyRecord, TrialRecord
from storage.settings import Settings
from storage.store import Store

FRONT_SECONDS = 60.0  # at most so often is the front drawn while a study runs
RETRY_SECONDS = 30.0  # after a failure, MLflow is left alone for this long
KIND_TAGS = {Kind.SEARCH: "trial", Kind.BASELINE: "static", Kind.FINALIST: "finalist"}


class Publisher:
    """Follows a running study. Start it, tell it what happened, close it."""

    def __init__(
        self, store: Store, settings: Settings, spec: StudySpec, say: Callable[[str], None]
    ) -> None:
        self._view = View(store, settings, spec)
        self._say = say
        self._queue: queue.Queue[tuple[Kind, int] | None] = queue.Queue()
        self._front_changed = False
        self._away_until = 0.0
        self._complained = False
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_until_open(self, seconds: float = 120.0) -> None:
        """Wait for the first contact with MLflow (a new database takes seconds to make), successful or not."""
        self._opened.wait(seconds)

    def trial_finished(self, kind: Kind, number: int) -> None:
        self._queue.put((kind, number))

    def front_changed(self) -> None:
        self._front_changed = True

    def close(self, seconds: float = 60.0) -> None:
        """Finish what is queued and draw the front a last time, within a time limit."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say("MLflow is slow; run `dynafront sync` later to bring it up to date")

    def _follow(self) -> None:
        drawn, last = 0.0, False
        self._try(self._view.open)
        self._opened.set()
        while not last:
            try:
                item = self._queue.get(timeout=1.0)
                last = item is None
                if item is not None:
                    self._try(lambda item=item: self._view.show_trial(*item))  # type: ignore[misc]
            except queue.Empty:
                pass
            due = last or (self._front_changed and time.monotonic() - drawn > FRONT_SECONDS)
            if due and (self._front_changed or last):
                self._front_changed, drawn = False, time.monotonic()
                self._try(self._view.show_front)
        self._try(self._view.show_missed)
        self._try(self._view.close)

    def _try(self, action: Callable[[], Any]) -> None:
        if time.monotonic() < self._away_until:
            return
        try:
            action()
            self._complained = False
        except Exception as error:  # whatever MLflow throws, the study goes on
            self._away_until = time.monotonic() + RETRY_SECONDS
            if not self._complained:
                self._complained = True
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._say(
                    f"MLflow cannot be reached ({reason[:160]}); trials go on, `dynafront sync` will catch up"
                )


class View:
    """A study as MLflow shows it; every method writes what our tables hold and can be repeated."""

    def __init__(self, store: Store, settings: Settings, spec: StudySpec) -> None:
        self.store, self.settings, self.spec = store, settings, spec
        self._log: MlflowLog | None = None
        self._experiment = self._parent = ""

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
            spec.study, text=record.text, params=params, tags={}
        )
        log.write_saved_views(self._experiment, describing_params(spec.families))
        if (record.experiment_id, record.run_id) != (self._experiment, self._parent):
            if record.run_id:  # another MLflow than before: nothing of what was logged is there
                self.store.unpublish(spec.study)
            self.store.set_study_run(spec.study, self._experiment, self._parent)
        self._log = log

    @property
    def log(self) -> MlflowLog:
        self.open()
        assert self._log is not None
        return self._log

    def show_trial(self, kind: Kind, number: int) -> None:
        """The run of one trial: parameters, curves, operating points, gate rates."""
        log, study = self.log, self.spec.study
        trial = self.store.trial(study, kind, number)
        if trial.state == State.RUNNING:
            return
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
                **_execution(trial),
            },
            tags=_tags(trial),
            metrics=_measures(trial, points),
            curves=[(e.epoch, dict(e.metrics)) for e in epochs],
            artifacts=_trial_artifacts(trial, points, [(e.epoch, e.gate_rates) for e in epochs]),
            start=trial.started_at,
            end=trial.finished_at,
            state=trial.state,
        )
        self.store.set_run(study, trial.kind, number, run_id)

    def show_front(self) -> None:
        """The parent run: hypervolume over trials, the front as page, picture, table and note, who is on it."""
        log, study = self.log, self.spec.study
        record, trials = self._study(), self.store.trials(study)
        members, points, static, volume = study_front(self.store, record)
        on_front = {p.training for p in members}
        runs = {(t.kind, t.number): t.run_id for t in trials if t.kind in ON_OFFER and t.run_id}
        log.log_front(
            self._experiment,
            self._parent,
            metrics=_history(points, self.spec.cost, Reference(**record.reference)),
            artifacts=front_artifacts(
                study,
                points,
                members,
                static,
                volume,
                self.spec.cost,
                study_majority(self.store, record),
            ),
            note=self._note(points, members, static, volume, runs),
            members={run: training in on_front for training, run in runs.items()},
        )

    def show_missed(self) -> int:
        """Every finished trial that MLflow does not show yet, and the front when there was one; returns how many."""
        missed = [
            t
            for t in self.store.trials(self.spec.study)
            if t.state != State.RUNNING and not t.published
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

    def _note(
        self,
        points: list[PointRecord],
        members: list[PointRecord],
        static: list[PointRecord],
        volume: float,
        runs: Mapping[tuple[Kind, int], str],
    ) -> str:
        from search.report.front_note import note

        links = {
            training: f"#/experiments/{self._experiment}/runs/{run}?workflowType=machine_learning"
            for training, run in runs.items()
        }
        views = {"charts of the front": self.log.view_path(self._experiment).lstrip("/")}
        return note(
            self.spec.study,
            points,
            members,
            run_id=self._parent,
            links=links,
            static=static,
            hypervolume=volume,
            views=views,
            cost=self.spec.cost,
            majority=study_majority(self.store, self._study()),
        )


def front_artifacts(
    study: str,
    points: list[PointRecord],
    members: list[PointRecord],
    static: list[PointRecord],
    volume: float,
    cost: Any,
    majority: float | None = None,
) -> dict[str, bytes]:
    """The front as files by artifact path."""
    from search.report.front_note import front_table
    from search.report.front_page import front_html
    from search.report.front_plot import front_png

    shown = {"front": members, "static": static, "hypervolume": volume, "cost": cost}
    shown["majority"] = majority
    found = {
        "pareto/front.csv": as_csv(members).encode(),
        "pareto/front_table.json": json.dumps(front_table(members, cost)).encode(),
        "pareto/front.png": front_png(study, points, **shown),
        "pareto/front.html": front_html(study, points, **shown).encode(),
    }
    if static:
        found["pareto/static.csv"] = as_csv(static).encode()
    return found


def _history(
    points: list[PointRecord], cost: Cost, reference: Reference
) -> list[tuple[int, dict[str, float]]]:
    from search.front.pareto import hypervolume_history

    best = list(
        accumulate(
            (max(p.accuracy for p in own) for _, own in groupby(points, lambda p: p.training)), max
        )
    )
    history = hypervolume_history(points, costs=(cost,), reference=reference)
    # steps count finished trials: by trial number, parallel trials that overtake each other would rewrite the past
    return [
        (
            step,
            {
                "study/hypervolume": volume,
                "study/pareto_size": size,
                "study/best_accuracy": best[step - 1],
            },
        )
        for step, (_, volume, size) in enumerate(history, 1)
    ]


def _tags(trial: TrialRecord) -> dict[str, str]:
    tags = {
        "automl.kind": KIND_TAGS[trial.kind],
        "automl.study": trial.study,
        "automl.trial": str(trial.number),
        "automl.state": trial.state,
        "pareto": "false",
    }
    if trial.error:
        tags["automl.error"] = trial.error[:500]
    if trial.state == State.STOPPED:
        tags["automl.stopped_at"] = str(trial.result["stopped_at"])
    if trial.of_trial is not None:
        tags["automl.repeats"] = str(trial.of_trial)
    return tags


def _execution(trial: TrialRecord) -> dict[str, Any]:
    """On what and in which number format it was trained."""
    known = trial.result.get("execution", {})
    names = ("device", "dtype", "channels_last")
    return {f"execution.{name}": known[name] for name in names if name in known}


def _measures(trial: TrialRecord, points: list[PointRecord]) -> dict[str, float]:
    """The objectives at the setting that represents the training, in units that read well."""
    chosen = next((p for p in points if p.chosen), None)
    if chosen is None:
        return {"obj/seconds": trial.seconds}
    return {
        "obj/accuracy": chosen.accuracy,
        "obj/macs_m": chosen.macs_mean / 1e6,
        "obj/macs_p95_m": chosen.macs_p95 / 1e6,
        "obj/parameters": float(chosen.parameters),
        "obj/best_accuracy": max(p.accuracy for p in points),
        "obj/seconds": trial.seconds,
    }


def _trial_artifacts(
    trial: TrialRecord, points: list[PointRecord], rates: list[tuple[int, dict[str, float]]]
) -> dict[str, bytes]:
    from search.report.gate_rates import gate_rates_png

    found = {}
    if points:
        found["operating_points.json"] = json.dumps([asdict(p) for p in points], indent=1).encode()
    if rates and rates[-1][1]:
        names = list(rates[-1][1])
        by_gate = {name: [values.get(name, 0.0) for _, values in rates] for name in names}
        title = f"trial {trial.number}: gates of {described(trial.family, trial.params)}"
        found["gate_rates.png"] = gate_rates_png(title, [epoch for epoch, _ in rates], by_gate)
    try:
        return found | _inspection_artifacts(trial, points, rates)
    # a picture that cannot be drawn must not keep this trial, or later ones, out of MLflow
    except Exception:
        return found | {"inspect/error.txt": traceback.format_exc().encode()}


def _inspection_artifacts(
    trial: TrialRecord, points: list[PointRecord], rates: list[tuple[int, dict[str, float]]]
) -> dict[str, bytes]:
    """Pictures and page of what the network does at the point that represents it, if its worker measured that."""
    from search.inspection.measures import inspection_of
    from search.inspection.page import inspection_html
    from search.inspection.pngs import inspection_pngs

    found, chosen = (
        inspection_of(trial.result.get("inspection")),
        next((p for p in points if p.chosen), None),
    )
    if found is None or chosen is None:
        return {}
    network = (
        f"trial {trial.number}: {described(trial.family, trial.params)}, {knobs_text(chosen.knobs)}"
    )
    drawn = {f"inspect/{name}.png": png for name, png in inspection_pngs(found, network).items()}
    return (
        drawn | {"inspect/inspect.html": inspection_html(found, network, rates).encode()}
        if drawn
        else {}
    )


def synced(
    store: Store, settings: Settings, record: StudyRecord, *, everything: bool = False
) -> int:
    """Bring MLflow up to date with one study; returns how many trials were logged. Raises what MLflow raises."""
    if everything:
        store.unpublish(record.name)
    view = View(store, settings, stored_spec(record.spec))
    view.open()
    count = view.show_missed()
    if not count:
        view.show_front()
    view.close()
    return count
