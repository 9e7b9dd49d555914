"""Operating points as runs of their own, below a study's run: those on its front and those of its baselines.

MLflow's charts draw one dot a run, and a training has many operating points: without these runs a chart of the front
would show another setting of each training than the one that is on the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.mlflow_client import asking
from storage.mlflow_runs import PARENT, PARETO, STUDY, MlflowRuns, now
from storage.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINT, VIEW = "automl.point", "automl.view"
SHOWN, LEFT = "front", "left"  # whether the chart of the front draws it


@dataclass(frozen=True)
class PointRun:
    """What MLflow shows of one operating point; `key` tells it from all others of its study, for good."""

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    on_front: bool


@dataclass(frozen=True)
class Known:
    """The run of a point: its id, its tags that change, the names of its measures."""

    run: str
    marks: dict[str, str]
    names: set[str]


class MlflowPoints:
    """The runs of studies' operating points. Raises StorageError when MLflow is not there."""

    def __init__(self, client: MlflowClient, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._runs = MlflowRuns(client, settings)
        # by study: the run of each point, with the tags that change, and the measures that it has
        self._known: dict[str, dict[str, Known]] = {}

    def show(
        self, experiment_id: str, parent_id: str, study: str, points: Sequence[PointRun]
    ) -> dict[str, str]:
        """Run ids by key. Missing runs are made; runs of points that are not among these leave the chart, and stay.

        A run gets measures that it lacks; those that it has stay as they are.
        """
        with asking(self._settings):
            known = self._known_runs(experiment_id, study)
            for point in points:
                on_front = str(point.on_front).lower()
                marks = {VIEW: SHOWN, PARETO: on_front, PARENT: parent_id}
                if point.key in known:
                    self._mark(known[point.key], marks)
                    self._add(known[point.key], point.metrics)
                else:
                    run = self._made(experiment_id, study, point, marks)
                    known[point.key] = Known(run, marks, set(point.metrics))
            wanted = {point.key for point in points}
            for key in known.keys() - wanted:
                self._mark(known[key], {VIEW: LEFT, PARETO: "false", PARENT: parent_id})
        return {key: known[key].run for key in wanted}

    def _known_runs(self, experiment_id: str, study: str) -> dict[str, Known]:
        if study not in self._known:
            found = {}
            for view in (SHOWN, LEFT):
                for run in self._runs.all_runs(experiment_id, {STUDY: study, VIEW: view}):
                    if run.info.lifecycle_stage != "active":
                        self._client.restore_run(run.info.run_id)
                    marks = {name: run.data.tags.get(name, "") for name in (VIEW, PARETO, PARENT)}
                    own = Known(run.info.run_id, marks, set(run.data.metrics))
                    found[run.data.tags[POINT]] = own
            self._known[study] = found
        return self._known[study]

    def _made(
        self, experiment_id: str, study: str, point: PointRun, marks: Mapping[str, str]
    ) -> str:
        from mlflow.entities import Metric

        tags = {**point.tags, **marks, STUDY: study, POINT: point.key}
        began = now()
        run = self._runs.create(experiment_id, point.name, tags, began)
        metrics = [Metric(name, value, began, 0) for name, value in point.metrics.items()]
        self._runs.log(run, point.params, metrics)
        self._client.set_terminated(run, end_time=began)
        return run

    def _mark(self, known: Known, marks: Mapping[str, str]) -> None:
        for name, value in marks.items():
            if known.marks[name] != value:
                self._client.set_tag(known.run, name, value)
                known.marks[name] = value

    def _add(self, known: Known, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        at = now()
        lacking = [Metric(n, value, at, 0) for n, value in metrics.items() if n not in known.names]
        if lacking:
            self._runs.log(known.run, {}, lacking)
            known.names.update(metrics)
