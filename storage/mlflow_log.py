"""A study as MLflow runs: one run for the study, below it one for every training, the front kept on both.

Every method writes what it is given, can be repeated, and raises StorageError when MLflow cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from storage.measure_names import ACCURACY
from storage.mlflow_client import asking, client, fitting, having
from storage.mlflow_points import MlflowPoints, PointRun
from storage.mlflow_runs import KIND, PAGE, PARENT, PARETO, STUDY, MlflowRuns, now
from storage.saved_views import CURVES, differing, saved_views, view_path
from storage.settings import Settings

TRIAL = "automl.trial"
LAYOUT, LAYOUT_NOW = "automl.layout", "2"  # what runs hold, and under which names
NOTE = "mlflow.note.content"
INSPECTED = "automl.inspected"  # the point that a training's pictures show
# of a run, by state of its trial
STATUS = {"running": "RUNNING", "complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class MlflowLog:
    """Writes studies to the MLflow of the settings. Raises StorageError when it is not there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = client(settings)
        self._runs = MlflowRuns(self._client, settings)
        self._points = MlflowPoints(self._client, settings)
        # by study run: runs tagged as on the front, and the first measure of each step that is logged
        self._front: dict[str, set[str]] = {}
        self._steps: dict[str, dict[int, float]] = {}

    def open_study(
        self,
        name: str,
        *,
        text: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        running: bool = True,
    ) -> tuple[str, str]:
        """Ids of the study's experiment and run: found, brought back where they were deleted, or made.

        The run is marked as `running`; where it is not, a run that was there keeps its mark. `text` is kept as
        study.yml. MLflow never changes a param: where one differs now, a tag of its name holds the new value.
        """
        with asking(self.settings):
            experiment = self._runs.experiment(self.settings.experiment_name(name))
            mark = {KIND: "study", STUDY: name}
            earlier = self._runs.find(experiment, mark)
            if earlier:
                run, known = earlier.info.run_id, earlier.data.params
                if running:
                    self._client.update_run(run, status="RUNNING")
            else:
                run, known = self._runs.create(experiment, f"study {name}", mark | dict(tags)), {}
            changed = {k: str(v) for k, v in params.items() if known.get(k, str(v)) != str(v)}
            fresh = {k: v for k, v in params.items() if k not in known}
            self._runs.log(run, fresh, [], changed | dict(tags))
            self._runs.keep(run, {"study.yml": text.encode()})
            if not (earlier or running):
                self._client.set_terminated(run)
        return experiment, run

    def is_outdated(self, run_id: str) -> bool:
        """Whether this study was logged by a version that named measures otherwise; it says so once, for each run."""
        with asking(self.settings):
            if self._client.get_run(run_id).data.tags.get(LAYOUT) == LAYOUT_NOW:
                return False
            self._client.set_tag(run_id, LAYOUT, LAYOUT_NOW)
        return True

    def log_trial(
        self,
        experiment_id: str,
        parent_id: str,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        curves: Sequence[tuple[int, Mapping[str, float]]],
        artifacts: Mapping[str, bytes],
        start: datetime,
        end: datetime | None,
        state: str,
    ) -> str:
        """Id of a new run that holds the whole trial; an older run of the same study, kind and number goes.

        `curves` are measures by epoch, `artifacts` contents by path; `state` is running, complete, stopped or failed.
        The run is off the front until `log_front` says otherwise.
        """
        begin, stop = _ms(start), _ms(end) if end else now()
        mark = {name: tags[name] for name in (STUDY, KIND, TRIAL)}
        with asking(self.settings):
            for older in self._client.search_runs([experiment_id], having(mark)):
                self._client.delete_run(older.info.run_id)
            shown = {**tags, PARETO: "false", PARENT: parent_id}
            run = self._runs.create(experiment_id, name, shown, begin)
            self._runs.log(run, params, _metrics(metrics, curves, begin, stop))
            self._runs.keep(run, artifacts)
            if state != "running":
                self._client.set_terminated(run, STATUS[state], end_time=stop)
        return run

    def log_front(
        self,
        experiment_id: str,
        parent_id: str,
        *,
        metrics: Sequence[tuple[int, Mapping[str, float]]],
        artifacts: Mapping[str, bytes],
        note: str,
        members: Mapping[str, bool],
    ) -> None:
        """Put the front on the study's run, and on the trials' runs whether they are `members` of it.

        Of `metrics` (measures by step) those steps are written that the run does not hold, and the last again if its
        first measure changed: a trial that goes on ends once more. Of `members` those that changed.
        """
        from mlflow.entities import Metric

        at = now()
        with asking(self.settings):
            logged = self._logged_steps(parent_id, metrics)
            fresh = [(step, values) for step, values in metrics if step not in logged]
            if metrics and not fresh and logged[metrics[-1][0]] != _first(metrics[-1][1]):
                fresh = [metrics[-1]]
            points = [
                Metric(key, value, at, step)
                for step, values in fresh
                for key, value in values.items()
            ]
            self._runs.log(parent_id, {}, points, {NOTE: fitting(note)})
            logged |= {step: _first(values) for step, values in fresh}
            self._runs.keep(parent_id, artifacts)
            self._tag_members(experiment_id, parent_id, members)

    def log_points(
        self, experiment_id: str, parent_id: str, study: str, points: Sequence[PointRun]
    ) -> dict[str, str]:
        """Runs of these operating points, which the chart of the front draws; their ids by key."""
        return self._points.show(experiment_id, parent_id, study, points)

    def log_measures(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Measures that take the place of those of the same names."""
        from mlflow.entities import Metric

        at = now()
        with asking(self.settings):
            self._runs.log(run_id, {}, [Metric(name, v, at, 0) for name, v in metrics.items()])

    def inspected_points(self, experiment_id: str, study: str) -> dict[str, int]:
        """By run, the point that its pictures show, of those that were drawn again after the training."""
        with asking(self.settings):
            found = list(self._runs.all_runs(experiment_id, {STUDY: study}, has=INSPECTED))
        tags = {run.info.run_id: run.data.tags[INSPECTED] for run in found}
        return {run: int(point) for run, point in tags.items() if point.isdecimal()}

    def replace_pictures(
        self, run_id: str, folder: str, artifacts: Mapping[str, bytes], point: int | None
    ) -> None:
        """Put these artifacts, contents by path, in the place of all in a folder; they show this point."""
        with asking(self.settings):
            self._runs.drop(run_id, folder)
            self._runs.keep(run_id, artifacts)
            self._client.set_tag(run_id, INSPECTED, str(point))

    def page_path(self, study: str) -> str:
        """Path of the study's page, from the root of MLflow's UI; empty where the server is not ours, and has none."""
        return "" if self.settings.remote else f"dynafront/study?name={quote(study, safe='')}"

    def write_saved_views(
        self,
        experiment_id: str,
        params: Sequence[str],
        cost: str,
        metric: str = ACCURACY,
        curve: str = CURVES[0],
        study: str = "",
    ) -> None:
        """Give the experiment the views `pareto` and `all`, and a note that links to them unless it has its own.

        Where the server is ours the note of a `study` links to its page first. The views show `params` of the runs,
        beside the measures `metric` and `cost`, and the metric's `curve` by epoch.
        """
        curves = list(dict.fromkeys((curve, *CURVES)))
        with asking(self.settings):
            tags = self._client.get_experiment(experiment_id).tags
            wanted = differing(saved_views(params, cost, curves, metric), tags)
            front = view_path(experiment_id, "pareto").lstrip("/")
            every = view_path(experiment_id, "all").lstrip("/")
            charts = f"Charts: [Pareto front]({front}), [all trials]({every})"
            page = self.page_path(study) if study else ""
            # one that a person wrote stays
            if tags.get(NOTE, charts) == charts:
                wanted[NOTE] = f"[The study's page]({page}). {charts}" if page else charts
            for tag, value in wanted.items():
                self._client.set_experiment_tag(experiment_id, tag, value)

    def view_path(self, experiment_id: str) -> str:
        """Path below the MLflow server's address that opens the charts of the front."""
        return view_path(experiment_id)

    def reconcile(
        self, experiment_id: str, study: str, known: Mapping[str, tuple[str, str]]
    ) -> set[str]:
        """Which of the `known` runs of trainings, with their tags `automl.kind` and `automl.trial`, are gone for good.

        Those that were deleted in MLflow are brought back. Other runs of the same trainings go: whoever restores an
        experiment restores the runs too that were replaced.
        """
        with asking(self.settings):
            found = list(self._runs.all_runs(experiment_id, {STUDY: study}))
            for run in found:
                active = run.info.lifecycle_stage == "active"
                training = run.data.tags.get(KIND), run.data.tags.get(TRIAL)
                if run.info.run_id in known and not active:
                    self._client.restore_run(run.info.run_id)
                elif run.info.run_id not in known and active and training in known.values():
                    self._client.delete_run(run.info.run_id)
        return set(known) - {run.info.run_id for run in found}

    def finish_study(self, run_id: str) -> None:
        """Mark the study's run as finished."""
        with asking(self.settings):
            self._client.set_terminated(run_id)

    def _logged_steps(
        self, run_id: str, metrics: Sequence[tuple[int, Mapping[str, float]]]
    ) -> dict[int, float]:
        if run_id not in self._steps:
            key = next((key for _, values in metrics for key in values), None)
            if key is None:
                return {}
            history = sorted(
                self._client.get_metric_history(run_id, key), key=lambda m: m.timestamp
            )
            self._steps[run_id] = {m.step: m.value for m in history}
        return self._steps[run_id]

    def _tag_members(self, experiment_id: str, parent_id: str, members: Mapping[str, bool]) -> None:
        if parent_id not in self._front:
            query = having({PARENT: parent_id, PARETO: "true"})
            tagged = self._client.search_runs([experiment_id], query, max_results=PAGE)
            self._front[parent_id] = {run.info.run_id for run in tagged}
        shown = self._front[parent_id]
        for run, on_front in members.items():
            if on_front != (run in shown):
                self._client.set_tag(run, PARETO, str(on_front).lower())
                (shown.add if on_front else shown.discard)(run)


def _metrics(
    metrics: Mapping[str, float],
    curves: Sequence[tuple[int, Mapping[str, float]]],
    begin: int,
    stop: int,
) -> list[Any]:
    """MLflow's metrics; the epochs share the trial's time evenly, which charts over time need."""
    from mlflow.entities import Metric

    logged = [Metric(key, float(value), stop, 0) for key, value in metrics.items()]
    for done, (epoch, values) in enumerate(curves, start=1):
        at = begin + (stop - begin) * done // len(curves)
        logged += [Metric(key, float(value), at, epoch) for key, value in values.items()]
    return logged


def _first(values: Mapping[str, float]) -> float:
    return float(next(iter(values.values())))


def _ms(time_: datetime) -> int:
    return int(time_.timestamp() * 1000)
