"""The chart of the front in MLflow: exactly the points that `dynafront front` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.front.stored import StudyFront, study_front
from search.objectives import MACS
from search.run.lease import lease
from search.run.point_run import MOST, point_runs
from search.run.view import View, sync_study
from search.spec import parse_study
from storage.mlflow_points import VIEW as VIEW_TAG
from storage.mlflow_points import MlflowPoints, PointRun
from storage.mlflow_runs import PARENT
from storage.records import Kind, PointRecord
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point, point

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 3, epochs: 1}\n"
VIEW = "tags.`automl.view` = 'front'"  # what the saved view asks for


def setting(accuracy: float, macs: float, tau: float) -> Any:
    """One of several settings of a network; it was trained for 0.5."""
    knobs = {"policy": "threshold", "tau": tau}
    return operating_point(accuracy, macs, knobs=knobs, chosen=tau == 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    found.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    ended(found, "static", 0, [setting(0.85, 9e6, 0.5)])
    ended(
        found,
        "search",
        0,
        [setting(0.7, 1e6, 0.3), setting(0.8, 2e6, 0.5), setting(0.81, 3e6, 0.7)],
    )
    ended(found, "search", 1, [setting(0.6, 2.5e6, 0.5), setting(0.9, 5e6, 0.9)])
    return found


def ended(store: Store, kind: str, number: int, points: list[Any]) -> None:
    store.add_trial("s", kind, number, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
    store.finish_trial("s", kind, number, points=points, result={}, seconds=1.0)


class Mlflow:
    """What the study's MLflow shows."""

    def __init__(self, store: Store, folder: Path) -> None:
        import mlflow

        self.store = store
        self.settings = Settings.model_validate({"storage": {"folder": folder}})
        self.client = mlflow.MlflowClient(self.settings.tracking_uri)

    def sync(self) -> None:
        sync_study(self.store, self.settings, self.store.study("s"))

    def runs(self, query: str) -> list[Any]:
        experiment = str(self.store.study("s").experiment_id)
        return list(self.client.search_runs([experiment], query))

    def drawn(self) -> list[tuple[float, float, float, str]]:
        """(accuracy, mean MACs, p95, on the front) of what the saved view draws, the cheapest first."""
        found = []
        for run in self.runs(VIEW):
            m, tags = run.data.metrics, run.data.tags
            macs = [m[f"{name} M MACs per image"] for name in ("mean", "p95")]
            found.append((m["validation accuracy"], *macs, tags["pareto"]))
        return sorted(found, key=lambda values: values[1])


@pytest.fixture
def shown(store: Store, tmp_path: Path) -> Mlflow:
    return Mlflow(store, tmp_path)


def expected(front: StudyFront) -> list[tuple[float, float, float, str]]:
    ids = {p.id for p in front.members}
    every = {p.id: p for p in (*front.members, *front.baselines)}
    ranked = sorted(every.values(), key=lambda p: p.macs_mean)
    return [
        (p.accuracy, p.macs_mean / 1e6, p.macs_p95 / 1e6, str(p.id in ids).lower()) for p in ranked
    ]


@pytest.mark.slow
def test_the_chart_draws_the_points_of_the_front_and_the_baselines_to_the_digit(
    store: Store, shown: Mlflow
) -> None:
    shown.sync()
    front = study_front(store, store.study("s"))
    assert [p.macs_mean for p in front.members] == [1e6, 2e6, 3e6, 5e6]
    assert shown.drawn() == expected(front)
    kinds = {run.info.run_name: run.data.tags["automl.kind"] for run in shown.runs(VIEW)}
    assert kinds["trial 1: threshold > 0.9"] == "point"
    assert kinds["baseline 0: threshold > 0.5"] == "baseline"
    (one,) = [r for r in shown.runs(VIEW) if r.info.run_name == "trial 0: threshold > 0.3"]
    assert (one.data.params["backbone"], one.data.params["knob.tau"]) == ("resnet8", "0.3")
    assert one.data.metrics["log10 of mean MACs per image"] == pytest.approx(6)
    assert one.info.status == "FINISHED"


@pytest.mark.slow
def test_points_that_leave_the_front_leave_the_chart_and_keep_their_runs(
    store: Store, shown: Mlflow
) -> None:
    shown.sync()
    before = {run.info.run_id for run in shown.runs(VIEW)}
    ended(store, "search", 2, [setting(0.95, 1.5e6, 0.5)])
    shown.sync()
    front = study_front(store, store.study("s"))
    assert [p.macs_mean for p in front.members] == [1e6, 1.5e6]
    assert shown.drawn() == expected(front)
    left = shown.runs("tags.`automl.view` = 'left'")
    assert {run.info.run_id for run in left} <= before
    assert [run.data.tags["pareto"] for run in left] == ["false"] * 3
    count = len(shown.runs("tags.`automl.point` != ''"))
    shown.sync()
    assert len(shown.runs("tags.`automl.point` != ''")) == count, "none is made twice"


@pytest.mark.slow
def test_a_point_that_was_deleted_in_mlflow_comes_back(store: Store, shown: Mlflow) -> None:
    shown.sync()
    for run in shown.runs(VIEW):
        shown.client.delete_run(run.info.run_id)
    assert shown.drawn() == []
    shown.sync()
    assert shown.drawn() == expected(study_front(store, store.study("s")))


@pytest.mark.slow
@pytest.mark.parametrize("call", ["log_batch", "set_terminated"])
@pytest.mark.parametrize("front_moves", [False, True])
def test_a_run_that_a_killed_process_began_is_written_to_its_end(
    store: Store, shown: Mlflow, monkeypatch: pytest.MonkeyPatch, call: str, front_moves: bool
) -> None:
    shown.sync()
    ended(store, "search", 2, [setting(0.95, 6e6, 0.5)])
    with monkeypatch.context() as patched:
        stop_at(patched, call, "trial 2: threshold > 0.5")
        with pytest.raises(KeyboardInterrupt):
            shown.sync()
    query = "tags.`automl.point` != '' and attributes.status = 'RUNNING'"
    assert [run.info.run_name for run in shown.runs(query)] == ["trial 2: threshold > 0.5"]
    if front_moves:
        ended(store, "search", 3, [setting(0.96, 5.5e6, 0.5)])
    shown.sync()
    assert shown.drawn() == expected(study_front(store, store.study("s")))
    assert shown.runs(query) == []
    (run,) = [r for r in shown.runs("") if r.info.run_name == "trial 2: threshold > 0.5"]
    assert front_moves or run.data.params["knob.tau"] == "0.5"


@pytest.mark.slow
def test_a_point_that_comes_back_gets_the_params_that_its_killed_process_did_not_write(
    shown: Mlflow, store: Store
) -> None:
    shown.sync()
    experiment, parent = str(store.study("s").experiment_id), str(store.study("s").run_id)
    (mine, other) = (PointRun(key, key, {}, {"a": key}, {"m": 1.0}, True) for key in "xy")
    begun = MlflowPoints(shown.client, shown.settings)
    begun._begun(experiment, "s", mine, {VIEW_TAG: "front", "pareto": "true", PARENT: parent})
    MlflowPoints(shown.client, shown.settings).show(experiment, parent, "s", [other])
    found = MlflowPoints(shown.client, shown.settings).show(experiment, parent, "s", [mine, other])
    assert shown.client.get_run(found["x"]).data.params == {"a": "x"}


@pytest.mark.slow
def test_a_point_that_two_processes_made_at_once_has_one_run_again(
    shown: Mlflow, store: Store
) -> None:
    """As a search and `dynafront sync` beside it do: neither knows of what the other has just made."""
    shown.sync()
    experiment, parent = str(store.study("s").experiment_id), str(store.study("s").run_id)
    point = PointRun("x", "both", {}, {"a": 1}, {"m": 1.0}, True)
    first, second = (MlflowPoints(shown.client, shown.settings) for _ in range(2))
    for one in (first, second):
        one.show(experiment, parent, "s", [])
    for one in (first, second):
        one.show(experiment, parent, "s", [point])
    query = "attributes.run_name = 'both'"
    assert len(shown.runs(query)) == 2
    for points in ([point], []):
        MlflowPoints(shown.client, shown.settings).show(experiment, parent, "s", points)
        assert len(shown.runs(query)) == 1
    assert shown.runs(f"{query} and {VIEW}") == []


@pytest.mark.slow
def test_sync_beside_a_search_does_not_say_that_it_has_ended(store: Store, shown: Mlflow) -> None:
    shown.sync()
    run = str(store.study("s").run_id)
    assert shown.client.get_run(run).info.status == "FINISHED"
    with lease(store, "s"):
        shown.sync()
        assert shown.client.get_run(run).info.status == "RUNNING"
    shown.sync()
    assert shown.client.get_run(run).info.status == "FINISHED"


def stop_at(patched: pytest.MonkeyPatch, call: str, name: str) -> None:
    """End the process, as far as it can tell, when it makes this call for the run of this name."""
    from mlflow import MlflowClient

    real = getattr(MlflowClient, call)

    def stopping(self: Any, run_id: str, *args: Any, **kwargs: Any) -> Any:
        if self.get_run(run_id).info.run_name == name:
            raise KeyboardInterrupt
        return real(self, run_id, *args, **kwargs)

    patched.setattr(MlflowClient, call, stopping)


@pytest.mark.slow
def test_what_was_measured_later_joins_the_run_of_its_point(store: Store, shown: Mlflow) -> None:
    shown.sync()
    member = study_front(store, store.study("s")).members[0]
    store.add_timing(member.id or 0, 2.5, 3.0)
    shown.sync()
    (run,) = shown.runs(f"tags.`automl.point` = '{member.id}'")
    assert run.data.metrics["measured latency ms per image"] == 2.5


@pytest.mark.slow
def test_a_trials_run_shows_it_at_its_point_on_the_front(store: Store, shown: Mlflow) -> None:
    view = View(store, shown.settings, parse_study(TEXT, "s"))
    view.show_trial(Kind.SEARCH, 1)

    def accuracy() -> float:
        (run,) = shown.runs("tags.`automl.kind` = 'trial' and tags.`automl.trial` = '1'")
        return float(run.data.metrics["validation accuracy"])

    assert accuracy() == 0.6, "of the setting it was trained for, as long as nothing else is known"
    view.show_front()
    assert accuracy() == 0.9
    ended(store, "search", 2, [setting(0.95, 1.5e6, 0.5)])
    view.show_front()
    assert accuracy() == 0.6, "none of its points is on the front"


@pytest.mark.slow
def test_a_study_that_an_earlier_version_logged_is_logged_again_under_todays_names(
    store: Store, shown: Mlflow
) -> None:
    shown.sync()
    shown.client.delete_tag(str(store.study("s").run_id), "automl.layout")
    assert sync_study(store, shown.settings, store.study("s")) == 3
    assert sync_study(store, shown.settings, store.study("s")) == 0


@pytest.mark.slow
def test_a_trial_that_is_logged_again_is_still_shown_at_its_point_on_the_front(
    store: Store, shown: Mlflow
) -> None:
    view = View(store, shown.settings, parse_study(TEXT, "s"))
    view.show_trial(Kind.SEARCH, 1)
    view.show_front()
    view.show_trial(Kind.SEARCH, 1)
    view.show_front()
    (run,) = shown.runs("tags.`automl.kind` = 'trial' and tags.`automl.trial` = '1'")
    assert run.data.metrics["validation accuracy"] == 0.9


def test_the_chart_has_no_more_runs_than_mlflow_draws() -> None:
    members = [point(0.5 + i / 1000, 1e5 * (i + 1), i, id=i) for i in range(300)]
    baselines = [point(0.4, 1e6 * (i + 1), i, kind=Kind.BASELINE, id=1000 + i) for i in range(60)]
    shown = point_runs(StudyFront(members, baselines, 0.5, list), MACS)
    assert len(shown) == MOST
    on_front = [one for one in shown if one.on_front]
    assert len(on_front) == 60
    assert {"0", "299"} <= {one.key for one in on_front}, (
        "the cheapest and the best are never left out"
    )


def test_a_baseline_on_the_front_is_one_run() -> None:
    winner: PointRecord = point(0.9, 1e5, 0, kind=Kind.BASELINE, id=5)
    (one,) = point_runs(StudyFront([winner], [winner], 0.5, list), MACS)
    assert (one.on_front, one.tags["automl.kind"]) == (True, "baseline")
