"""Operating points as runs of their own, below a study's run: those on its front and those of its baselines.

MLflow's charts draw one dot a run, and a training has many operating points: without these runs a chart of the front
would show another setting of each training than the one that is on the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from storage.mlflow_client import asking
from storage.mlflow_runs import PARENT, PARETO, STUDY, MlflowRuns, now
from storage.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

POINT, VIEW = "automl.point", "automl.view"
BEGUN = "RUNNING"  # what MLflow says of a run until all of it is written
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
    """The run of a point: its id, its tags that change, the names of its measures.

    A run that has `begun`, at so many milliseconds since 1970, is not all written; whoever began it may be dead. One
    that is `bare` has no params yet.
    """

    run: str
    marks: dict[str, str]
    names: set[str]
    begun: int | None = None
    bare: bool = False


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
                if point.key not in known:
                    known[point.key] = self._begun(experiment_id, study, point, marks)
                self._mark(known[point.key], marks)
                params = point.params if known[point.key].bare else {}
                self._add(known[point.key], point.metrics, params)
                known[point.key] = self._ended(replace(known[point.key], bare=False))
            wanted = {point.key for point in points}
            for key in known.keys() - wanted:
                self._mark(known[key], {VIEW: LEFT, PARETO: "false", PARENT: parent_id})
                known[key] = self._ended(known[key])
        return {key: known[key].run for key in wanted}

    def _known_runs(self, experiment_id: str, study: str) -> dict[str, Known]:
        if study not in self._known:
            found: dict[str, Known] = {}
            for view in (SHOWN, LEFT):
                for run in self._runs.all_runs(experiment_id, {STUDY: study, VIEW: view}):
                    self._take_in(run, found)
            self._known[study] = found
        return self._known[study]

    def _take_in(self, run: Run, found: dict[str, Known]) -> None:
        """Add what is known of a run; a second one of a point goes: two processes have made it at the same time."""
        number, deleted = run.info.run_id, run.info.lifecycle_stage != "active"
        if run.data.tags[POINT] in found:
            if not deleted:
                self._client.delete_run(number)
            return
        if deleted:
            self._client.restore_run(number)
        marks = {name: run.data.tags.get(name, "") for name in (VIEW, PARETO, PARENT)}
        begun = run.info.start_time if run.info.status == BEGUN else None
        found[run.data.tags[POINT]] = Known(
            number, marks, set(run.data.metrics), begun, bare=not run.data.params
        )

    def _begun(
        self, experiment_id: str, study: str, point: PointRun, marks: Mapping[str, str]
    ) -> Known:
        tags = {**point.tags, **marks, STUDY: study, POINT: point.key}
        begun = now()
        run = self._runs.create(experiment_id, point.name, tags, begun)
        return Known(run, dict(marks), set(), begun, bare=True)

    def _ended(self, known: Known) -> Known:
        if known.begun is None:
            return known
        self._client.set_terminated(known.run, end_time=known.begun)
        return replace(known, begun=None)

    def _mark(self, known: Known, marks: Mapping[str, str]) -> None:
        for name, value in marks.items():
            if known.marks[name] != value:
                self._client.set_tag(known.run, name, value)
                known.marks[name] = value

    def _add(self, known: Known, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        at = now()
        lacking = [Metric(n, value, at, 0) for n, value in metrics.items() if n not in known.names]
        self._runs.log(known.run, params, lacking)
        known.names.update(metrics)
