"""MLflow follows our tables, and never holds a study up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.run import publish
from search.run.publish import Publisher
from search.run.view import View, sync_study
from search.spec import parse_study
from storage.records import Kind, TrialRecord
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

TRIALS = "tags.`automl.kind` = 'trial'"
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 2, epochs: 1}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study(
        "s", parse_study(TEXT, "s").model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7}
    )
    for number in range(2):
        found.add_trial("s", "search", number, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
        points = [operating_point(0.8 + number / 10, 1e6 * (1 + 3 * number))]
        found.finish_trial("s", "search", number, points=points, result={}, seconds=1.0)
    return found


@pytest.fixture
def publisher(store: Store, tmp_path: Path) -> Publisher:
    return Publisher(store, settings(tmp_path), parse_study(TEXT, "s"), lambda line: None)


def test_an_mlflow_that_is_away_is_left_alone_for_half_a_minute(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tried = [1000.0], list[float]()
    monkeypatch.setattr(publish, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def failing() -> None:
        tried.append(now[0])
        raise ConnectionError("refused")

    for _ in range(8):
        publisher._try(failing)
        now[0] += 10
    assert tried == [1000, 1030, 1060]


def test_the_front_is_drawn_once_a_minute_and_in_the_end(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, seen = threading.Semaphore(0), list[int]()
    for name in ("open", "show_missed", "close"):
        monkeypatch.setattr(View, name, lambda self: None)
    monkeypatch.setattr(View, "show_trial", lambda self, kind, number: seen.append(number))
    monkeypatch.setattr(View, "show_front", lambda self: drawn.release())
    publisher.start()
    for number in range(5):
        publisher.front_changed()
        publisher.trial_finished(Kind.SEARCH, number)
        while len(seen) <= number:
            time.sleep(0.001)
    assert drawn.acquire(timeout=5)
    publisher.close()
    assert drawn.acquire(timeout=5)
    assert not drawn.acquire(blocking=False), "five changes and the end are drawn twice"
    assert seen == list(range(5))


def settings(folder: Path, uri: str | None = None) -> Settings:
    values: dict[str, object] = {"storage": {"folder": folder}}
    return Settings.model_validate(values | ({"tracking_uri": uri} if uri else {}))


@pytest.mark.slow
def test_when_mlflow_is_away_it_is_said_once_and_sync_catches_up(
    store: Store, tmp_path: Path
) -> None:
    import mlflow

    said: list[str] = []
    spec = parse_study(TEXT, "s")
    publisher = Publisher(store, settings(tmp_path, "http://127.0.0.1:9"), spec, said.append)
    publisher.start()
    publisher.trial_finished("search", 0)
    publisher.trial_finished("search", 1)
    publisher.close()
    assert len(said) == 1
    assert "dynafront sync" in said[0]
    assert not any(t.published for t in store.trials("s"))
    record = store.study("s")
    here = settings(tmp_path)
    store.add_trial("s", "static", 0, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
    store.finish_trial("s", "static", 0, points=[operating_point(0.2, 9e6)], result={}, seconds=1.0)
    assert sync_study(store, here, record) == 3
    assert all(t.published and t.run_id for t in store.trials("s"))
    client = mlflow.MlflowClient(here.tracking_uri)
    record = store.study("s")
    assert record.experiment_id is not None
    trials = "tags.pareto = 'true' and tags.`automl.kind` = 'trial'"
    runs = client.search_runs([record.experiment_id], trials)
    assert {r.data.tags["automl.trial"] for r in runs} == {"0", "1"}
    named = {
        r.info.run_name: r.data.tags.get("automl.kind")
        for r in client.search_runs([record.experiment_id])
    }
    assert named == {
        "trial-0000": "trial",
        "trial-0001": "trial",
        "baseline-0000": "static",
        "study s": "study",
        "trial 0: threshold > 0.5": "point",
        "trial 1: threshold > 0.5": "point",
        "baseline 0: threshold > 0.5": "baseline",
    }
    history = client.get_metric_history(record.run_id, "study/hypervolume")
    assert [m.step for m in history] == [1, 2, 3], "finished trainings are counted"
    assert {f.path for f in client.list_artifacts(record.run_id, "pareto")} >= {
        "pareto/front.html",
        "pareto/front.png",
        "pareto/front.csv",
        "pareto/front_table.json",
    }
    assert sync_study(store, here, record) == 0, "a second sync has nothing to do"


@pytest.mark.slow
def test_a_new_mlflow_gets_everything_again(store: Store, tmp_path: Path) -> None:
    record = store.study("s")
    first, second = settings(tmp_path), settings(tmp_path, f"sqlite:///{tmp_path / 'other.db'}")
    assert sync_study(store, first, record) == 2
    record = store.study("s")
    View(store, second, parse_study(TEXT, "s")).open()
    assert [t.published for t in store.trials("s")] == [False, False]
    assert sync_study(store, second, record) == 2


@pytest.mark.slow
def test_a_stopped_trial_is_shown_like_a_complete_one_and_again_when_it_went_on(
    store: Store, tmp_path: Path
) -> None:
    import mlflow

    store.add_trial("s", "search", 2, "gated_resnet", {"backbone": "resnet14"}, 0, 36)
    result = {"parameters": 10, "plain_macs": 100, "execution": {}, "stopped_at": 4}
    points = [operating_point(0.95, 5e6)]
    store.finish_trial("s", "search", 2, points=points, result=result, seconds=1.0, state="stopped")
    here, record = settings(tmp_path), store.study("s")
    assert sync_study(store, here, record) == 3
    client, record = mlflow.MlflowClient(here.tracking_uri), store.study("s")

    def shown() -> mlflow.entities.Run:
        (run,) = client.search_runs(
            [str(record.experiment_id)], f"{TRIALS} and tags.`automl.trial` = '2'"
        )
        return run

    run = shown()
    assert run.info.status == "FINISHED"
    assert (run.data.tags["automl.state"], run.data.tags["automl.stopped_at"]) == ("stopped", "4")
    assert run.data.tags["pareto"] == "true"
    assert (run.data.params["backbone"], run.data.params["epochs"]) == ("resnet14", "36")
    assert run.data.metrics["validation accuracy"] == 0.95
    assert "operating_points.json" in {f.path for f in client.list_artifacts(run.info.run_id)}
    volume = client.get_run(record.run_id).data.metrics["study/hypervolume"]

    store.resume_trial("s", "search", 2)
    View(store, here, parse_study(TEXT, "s")).show_trial("search", 2)
    assert shown().info.run_id == run.info.run_id, "while it runs, what it was"
    assert sync_study(store, here, record) == 0
    assert shown().data.tags["pareto"] == "false", "its points are gone"
    store.finish_trial(
        "s", "search", 2, points=[operating_point(0.99, 5e6)], result={}, seconds=1.0
    )
    assert sync_study(store, here, record) == 1
    again = shown()
    assert again.info.run_id != run.info.run_id
    assert again.data.tags["automl.state"] == "complete"
    assert "automl.stopped_at" not in again.data.tags
    assert (again.data.metrics["validation accuracy"], again.data.tags["pareto"]) == (0.99, "true")
    assert client.get_run(record.run_id).data.metrics["study/hypervolume"] > volume


def test_pictures_that_cannot_be_drawn_keep_no_trial_out_of_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import search.run.trial_run as module

    def broken(*arguments: object) -> dict[str, bytes]:
        raise ZeroDivisionError("no picture today")

    monkeypatch.setattr(module, "_kept_inspection_artifacts", broken)
    trial = store.trials("s")[0]
    found = module.trial_artifacts(trial, store.points("s", number=trial.number), [])
    assert b"no picture today" in found["inspect/error.txt"]
    assert "operating_points.json" in found


@pytest.mark.slow
def test_a_large_study_is_brought_over_without_reading_the_pictures_of_every_trial(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    real = Store.trials

    def watched(self: Store, *given: Any, **named: Any) -> list[TrialRecord]:
        asked.append(named.get("results"))
        return real(self, *given, **named)

    monkeypatch.setattr(Store, "trials", watched)
    assert sync_study(store, settings(tmp_path), store.study("s")) == 2
    assert set(asked) == {False}
