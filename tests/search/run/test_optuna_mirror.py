"""Optuna's side of a study, as Optuna's own tools read it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from search.run import optuna_tables
from search.run.books import Books
from search.run.job import Failure
from search.run.optuna_mirror import POINTS, OptunaMirror, mirror_for, optuna_storage
from search.schedule.decisions import Trial
from search.spec import parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind
from storage.store import Store
from tests.points import operating_point

TEXT = (
    "study: s\ndata: digits\nfamilies: [gated_resnet, multi_exit]\nbudget: {trials: 9, epochs: 2}\n"
)


@pytest.fixture
def storage(tmp_path: Path) -> optuna.storages.RDBStorage:
    """Optuna's tables of a study of six trials of two families, each with two operating points that matter."""
    spec = parse_study(TEXT, "s")
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e9})
    found = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'o.db'}")
    books = Books(store, "s", spec.costs, mirror_for(found, store, spec))
    for number in range(6):
        own, target = (("gated_resnet", {"target": 0.3 + number / 10}), ("multi_exit", {}))[
            number % 2
        ]
        candidate = Candidate.of(family(own), target, 2)
        trial = Trial(Kind.SEARCH, number, candidate, number)
        books.record(trial)
        accuracy = 0.5 + number / 20
        points = [
            operating_point(accuracy, 2e6 * (1 + number)),
            operating_point(accuracy - 0.1, 1e6 * (1 + number), chosen=False),
            operating_point(accuracy - 0.2, 3e6 * (1 + number), chosen=False),
        ]
        store.finish_trial("s", "search", number, points=points, result={}, seconds=1.0)
        books.mirror_end(store.trial("s", "search", number), points)
    books.close()
    return found


def test_objectives_have_their_names_and_trials_the_points_that_none_of_their_own_beats(
    storage: optuna.storages.RDBStorage,
) -> None:
    study = optuna.load_study(study_name="s", storage=storage)
    assert study.metric_names == ["accuracy", "macs"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    first = study.trials[0]
    assert first.values == [0.5, 2e6]
    assert first.user_attrs[POINTS] == [
        {"accuracy": 0.4, "macs": 1e6},
        {"accuracy": 0.5, "macs": 2e6},
    ]


class Dashboard:
    """optuna-dashboard, asked without a network."""

    def __init__(self, storage: optuna.storages.RDBStorage) -> None:
        from optuna_dashboard import wsgi

        self.app = wsgi(storage)

    def get(self, path: str) -> tuple[str, bytes]:
        path, _, query = path.partition("?")
        said: list[str] = []
        environment: dict[str, Any] = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": BytesIO(),
        }
        body = b"".join(self.app(environment, lambda status, headers, *_: said.append(status)))
        return said[0], body


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of optuna-dashboard's own
def test_optuna_dashboard_shows_directions_history_and_importance(
    storage: optuna.storages.RDBStorage,
) -> None:
    dashboard = Dashboard(storage)
    status, body = dashboard.get("/api/studies")
    assert status.startswith("200")
    (summary,) = json.loads(body)["study_summaries"]
    assert summary["directions"] == ["maximize", "minimize"]
    study = summary["study_id"]
    status, body = dashboard.get(f"/api/studies/{study}?after=0")
    assert status.startswith("200")
    detail = json.loads(body)
    assert len(detail["trials"]) == 6
    assert detail["objective_names"] == ["accuracy", "macs"] or detail["metric_names"] == [
        "accuracy",
        "macs",
    ]
    shown = {attr["key"] for attr in detail["trials"][0]["user_attrs"]}
    assert POINTS in shown
    for evaluator in ("ped_anova", "fanova"):
        status, body = dashboard.get(
            f"/api/studies/{study}/param_importances?evaluator={evaluator}"
        )
        assert status.startswith("200"), body
        assert len(json.loads(body)["param_importances"]) == 2


def test_a_second_end_changes_nothing(storage: optuna.storages.RDBStorage, tmp_path: Path) -> None:
    spec = parse_study(TEXT, "s")
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    mirror: OptunaMirror = mirror_for(storage, store, spec)
    mirror.tell(0, [0.9, 1.0], [{"accuracy": 0.9}])
    mirror.close()
    assert mirror.study.trials[0].values == [0.5, 2e6]
    assert len(mirror.study.trials[0].user_attrs[POINTS]) == 2


def gathering(tmp_path: Path) -> tuple[Books, optuna.storages.RDBStorage]:
    """A study whose mirror waits a moment for more to write."""
    spec = parse_study(TEXT, "s")
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e9})
    found = optuna_storage(f"sqlite:///{tmp_path / 'o.db'}")
    mirror = mirror_for(found, store, spec)
    mirror.gather = 0.5
    return Books(store, "s", spec.costs, mirror), found


def suggested(books: Books, number: int) -> None:
    candidate = Candidate.of(family("gated_resnet"), {}, 2)
    books.record(Trial(Kind.SEARCH, number, candidate, number))


def test_what_happens_within_a_moment_is_one_transaction(tmp_path: Path) -> None:
    books, storage = gathering(tmp_path)
    commits: list[object] = []
    event.listen(storage.engine, "commit", commits.append)
    for number in range(4):
        suggested(books, number)
    books.fail(Kind.SEARCH, 0, Failure("no memory", None, ""))
    books.close()
    assert len(commits) == 1
    states = [t.state.name for t in optuna.load_study(study_name="s", storage=storage).trials]
    assert states == ["FAIL", "RUNNING", "RUNNING", "RUNNING"]


def test_writes_whose_connection_was_lost_are_repeated_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.run.optuna_mirror.AGAIN_SECONDS", 0.0)
    books, storage = gathering(tmp_path)
    assert isinstance(books.mirror, OptunaMirror)
    whole, calls = optuna_tables._end, []

    def end(*values: Any) -> None:
        calls.append(values[0])
        if len(calls) == 1:
            raise OperationalError("", {}, Exception("gone"), connection_invalidated=True)
        whole(*values)

    monkeypatch.setattr(optuna_tables, "_end", end)
    for number in range(3):
        suggested(books, number)
    books.fail(Kind.SEARCH, 1, Failure("no memory", None, ""))
    books.close()
    trials = optuna.load_study(study_name="s", storage=storage).trials
    assert [t.state.name for t in trials] == ["RUNNING", "FAIL", "RUNNING"]
    assert len(calls) == 2
