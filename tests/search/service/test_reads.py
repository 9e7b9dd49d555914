"""Trials, why, compare and what a network does with images: what their addresses answer."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from search.front.stored import study_front
from search.service import working
from search.service.background import Background
from search.service.importance import FEWEST, importances
from search.service.inspected import ROWS
from search.service.routes import API, blueprint
from search.spec import parse_study
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.records import EpochRecord, Kind
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point
from tests.search.service.test_service import asked

SPACE = "space: {gated_resnet: {granularity: [layer, channel], lr: {low: 0.02, high: 0.2}}}\n"
TEXT = (
    f"study: s\ndata: digits\nfamilies: [gated_resnet]\n{SPACE}budget: {{trials: 4, epochs: 2}}\n"
)


def client_of(store: Store, folder: Path) -> FlaskClient:
    app = Flask("test")
    app.register_blueprint(
        blueprint(store, Settings.model_validate({"storage": {"folder": folder}}))
    )
    return app.test_client()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    for name in ("s", "t", "u"):
        text = TEXT.replace("study: s", f"study: {name}")
        spec = parse_study(text, name).model_dump(mode="json")
        found.add_study(name, spec, text, {"accuracy": 0.1, "macs": 1e8})
    return found


@pytest.fixture
def client(store: Store, tmp_path: Path) -> FlaskClient:
    return client_of(store, tmp_path)


def trained(store: Store, study: str, number: int, accuracy: float, **params: Any) -> None:
    """A training with one point, whose MACs follow from its width alone."""
    values = {"backbone": "resnet8", "width": 0.5, "granularity": "layer", "lr": 0.1} | params
    store.add_trial(study, "search", number, "gated_resnet", values, 0, 2)
    made = operating_point(accuracy, 1e6 * values["width"])
    store.finish_trial(study, Kind.SEARCH, number, points=[made], result={}, seconds=2.0)


def test_a_trial_has_its_curves_its_points_and_every_failure(
    client: FlaskClient, store: Store
) -> None:
    store.add_trial("s", "search", 0, "gated_resnet", {"backbone": "resnet8"}, 7, 2)
    store.fail_trial("s", "search", 0, error="no memory", epoch=None, trace="Traceback: a")
    failed = asked(client, "trial", study="s", number=0)
    assert failed["state"] == "failed"
    assert failed["failures"][0]["trace"] == "Traceback: a"
    assert dict(failed["commands"])["the traceback"] == "dynafront status s --trace 0"
    assert any("--retry-failed" in command for _, command in failed["commands"])
    store.retry_trial("s", Kind.SEARCH, 0)
    assert asked(client, "trial", study="s", number=0)["state"] == "interrupted", "nobody drives it"
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        metrics = {"train/loss": 1 / epoch, "val/accuracy": accuracy, "val/macs": 5.0}
        store.add_epoch("s", Kind.SEARCH, 0, EpochRecord(epoch, metrics, {"g": 0.5}))
    store.finish_trial(
        "s", Kind.SEARCH, 0, points=[operating_point(0.75, 2e6)], result={}, seconds=3.0
    )
    done = asked(client, "trial", study="s", number=0, kind="search")
    assert [chart["name"] for chart in done["charts"]] == ["loss", "accuracy", "MACs an image"]
    assert done["charts"][1]["lines"] == {"validation": [0.5, 0.75]}
    assert done["gates"] == {"g": [0.5, 0.5]}
    assert [p["accuracy"] for p in done["points"]] == [0.75]
    assert (done["seed"], done["epochs_done"], done["on_front"]) == (7, 2, True)
    assert len(done["failures"]) == 1, "what failed before it went well stays"


def test_a_trial_that_is_not_there_is_one_line(client: FlaskClient) -> None:
    assert asked(client, "trial", 404, study="s", number=9) == {"error": "there is no trial 9 in s"}
    assert "no kind" in asked(client, "trial", 400, study="s", number=0, kind="x")["error"]
    assert "not the number" in asked(client, "trial", 400, study="s", number="-1")["error"]


def test_why_says_when_there_are_too_few_trainings(client: FlaskClient, store: Store) -> None:
    trained(store, "s", 0, 0.8, target_channel=0.3, granularity="channel")
    trained(store, "s", 1, 0.9)
    found = asked(client, "why", study="s")
    assert found["importance"] is None
    assert found["words"].startswith(f"2 of the {FEWEST} trainings")
    assert [t["values"]["granularity"] for t in found["trainings"]] == ["channel", "layer"]
    assert [one["name"] for one in found["objectives"]] == ["accuracy", "macs", "hypervolume"]
    assert found["objectives"][0]["values"] == [0.8, 0.9]


def test_what_sets_the_cost_is_found_and_conditions_are_no_hindrance(store: Store) -> None:
    for number in range(40):
        more = {"target_channel": 0.1 + number / 100} if number % 2 else {}
        granularity = "channel" if number % 2 else "layer"
        width = (0.25, 0.5, 1.0)[number % 3]
        lr = 0.02 + 0.004 * (number * 7 % 40)
        trained(store, "s", number, 0.6 + lr, width=width, lr=lr, granularity=granularity, **more)
    record = store.study("s")
    found = importances(store, record, study_front(store, record))
    assert max(found["macs"], key=found["macs"].__getitem__) == "width"
    assert max(found["accuracy"], key=found["accuracy"].__getitem__) == "lr"


@pytest.mark.slow
def test_importance_is_computed_beside_the_server_and_kept(
    client: FlaskClient, store: Store, tmp_path: Path
) -> None:
    for number in range(FEWEST):
        trained(store, "s", number, 0.5 + number / 100, lr=0.02 + number / 1000)
    first = asked(client, "why", study="s")
    assert (first["importance"], first["computing"], first["error"]) == (None, True, "")
    end = time.monotonic() + 60
    while (found := asked(client, "why", study="s"))["computing"] and time.monotonic() < end:
        time.sleep(0.2)
    assert set(found["importance"]) == {"accuracy", "macs", "hypervolume"}
    again = asked(client_of(store, tmp_path), "why", study="s")
    assert (again["importance"], again["computing"]) == (found["importance"], False)


def test_the_budget_of_the_study_s_file_is_told_and_the_point_within_it_is_marked(
    client: FlaskClient, store: Store
) -> None:
    for study in ("s", "t"):
        trained(store, study, 0, 0.8)
        trained(store, study, 1, 0.9, width=1.0)
    assert asked(client, "study", study="s")["budget"] == {}
    cheap, dear = (store.points("s", Kind.SEARCH, n)[0] for n in (0, 1))
    assert asked(client, "points", study="s")["efficient"] == dear.id
    region = {"max_macs": cheap.macs_mean}
    store.set_spec("t", store.study("t").spec | {"region": region}, TEXT)
    assert asked(client, "study", study="t")["budget"] == {"macs_mean": cheap.macs_mean}
    (within,) = store.points("t", Kind.SEARCH, 0)
    assert asked(client, "points", study="t")["efficient"] == within.id
    store.set_spec("t", store.study("t").spec | {"region": {}}, TEXT)
    assert asked(client, "points", study="t")["efficient"] != within.id, "nothing else has changed"


def test_latency_is_an_axis_once_an_export_measured_it(client: FlaskClient, store: Store) -> None:
    trained(store, "s", 0, 0.8)
    trained(store, "s", 1, 0.9, width=1.0)
    assert "latency" not in asked(client, "study", study="s")["axes"]
    assert "is no cost" in asked(client, "answer", 400, study="s", max=1, axis="latency")["error"]
    tag = client.get(f"{API}/points?study=s").headers["ETag"]
    cheap = store.points("s", Kind.SEARCH, 0)[0]
    measured = {"batch_1": {"onnxruntime": {"exported": {"median": 1.5}, "static": {"median": 2}}}}
    report = {"latency_ms": measured}
    store.add_export("s", pick="best", folder="x", report=report, point=cheap.id)
    study = asked(client, "study", study="s")
    assert study["columns"]["latency"] == "latency_ms"
    changed = client.get(f"{API}/points?study=s", headers={"If-None-Match": tag}).get_json()
    assert [p["latency_ms"] for p in changed["front"]] == [1.5, None]
    found = asked(client, "answer", study="s", max="2ms", axis="latency")
    assert found["words"].startswith("within 2 ms: trial 0, 80.0 %")
    less = asked(client, "answer", 400, study="s", max="0.5", axis="latency")["error"]
    assert less == "nothing costs 0.5 ms or less; the cheapest point takes 1.5 ms"
    for wrong in ("many", "-1", "nan", "inf"):
        said = asked(client, "answer", 400, study="s", max=wrong, axis="latency")["error"]
        assert "not a number of milliseconds" in said


def test_studies_are_compared_in_the_words_of_the_command(
    client: FlaskClient, store: Store
) -> None:
    trained(store, "s", 0, 0.9)
    trained(store, "t", 0, 0.8)
    found = client.get(f"{API}/compare?study=s&study=t").get_json()
    assert [one["study"] for one in found["studies"]] == ["s", "t"]
    assert found["pairs"][0]["command"] == "dynafront compare s t"
    assert found["pairs"][0]["words"][0].startswith("no interval of the hypervolumes")
    assert found["pairs"][0]["within"][0]["points"][0]["training"] == "trial 0"
    for query, said in (
        ("study=s", "1 studies: name two to 4"),
        ("study=s&study=s", "twice"),
        ("study=s&study=nosuch", "there is no study nosuch"),
        ("study=s&study=u", "study u has no front yet"),
    ):
        assert said in client.get(f"{API}/compare?{query}").get_json()["error"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the background is done in this process, which has PyTorch already."""

    def run(background: Background, arguments: list[str]) -> str:
        monkeypatch.setenv(SETTINGS_VARIABLE, background._settings.model_dump_json())
        try:
            working.main(*arguments)
        except ValueError as error:
            return str(error)
        return ""

    monkeypatch.setattr(Background, "_run", run)
    monkeypatch.setattr(working, "NICE", 0)


def measured(client: FlaskClient, query: dict[str, Any]) -> Any:
    """Ask for a point to be measured, and wait for that."""
    assert client.post(f"{API}/inspected", query_string=query, json={}).status_code == 200
    end = time.monotonic() + 60
    while (found := asked(client, "inspected", **query))["state"] == "measuring":
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_network_is_measured_when_asked_for_and_only_its_pictures_are_served(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(finished / "dynafront-data", folder)
    store = Store.open(f"sqlite:///{folder / 'dynafront.db'}")
    client = client_of(store, folder)
    reference = store.study("tiny").reference["accuracy"]
    points = [p for p in store.points("tiny", Kind.SEARCH) if p.accuracy > reference]
    points = [p for p in points if p.knobs["policy"] == "threshold"]
    kept = asked(client, "inspected", study="tiny", id=next(p for p in points if p.chosen).id)
    assert (kept["state"], kept["page"]) == ("ready", False), "as the training kept it"
    query = {"study": "tiny", "id": next(p for p in points if not p.chosen).id}
    assert asked(client, "inspected", **query) == {"state": "none"}
    assert asked(client, "image", 404, row="wrong", number=0, **query)
    assert asked(client, "inspected.html", 404, **query)
    found = measured(client, query)
    assert (found["state"], found["page"]) == ("ready", True), found
    assert set(found["rows"]) <= set(ROWS)
    picture = client.get(f"{API}/image", query_string={"row": "wrong", "number": 0, **query})
    assert picture.content_type == "image/png"
    assert picture.data.startswith(b"\x89PNG")
    page = client.get(f"{API}/inspected.html", query_string=query)
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert "answered wrong" in page.text
    for row, number in (("wrong", 99), ("../inspect.json", 0), ("parts", 0)):
        assert asked(client, "image", 404, row=row, number=number, **query)
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "pages")
    failed = measured(client, query)
    assert failed["state"] == "failed"
    assert "checkpoint" in failed["error"]


def test_growth_says_what_each_training_added(client: FlaskClient, store: Store) -> None:
    assert asked(client, "growth", study="s") == {
        "trainings": [],
        "hypervolume": [],
        "points": [],
        "words": "",
    }
    for number, accuracy in enumerate((0.7, 0.9, 0.5, 0.6)):
        trained(store, "s", number, accuracy)
    found = asked(client, "growth", study="s")
    assert found["trainings"] == ["trial 0", "trial 1", "trial 2", "trial 3"]
    first, second, third, last = found["hypervolume"]
    assert 0 < first < second == third == last
    assert last == pytest.approx(asked(client, "study", study="s")["front"]["hypervolume"])
    assert found["points"] == [1, 1, 1, 1], "all have the same cost"
    assert found["words"] == "the last 2 trainings added nothing to the hypervolume"
    trained(store, "s", 4, 0.95)
    assert asked(client, "growth", study="s")["words"].endswith("% of the hypervolume")


def test_the_list_of_studies_reads_no_points_but_those_of_fronts_and_a_study_reads_them_once(
    store: Store, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        trained(store, "s", number, 0.5 + number / 10)
    read: list[tuple[Any, ...]] = []
    whole = store.points

    def points(*asked: Any, **how: Any) -> Any:
        if "kind" not in how:  # baselines, which are few, are read by their kind
            read.append(asked)
        return whole(*asked, **how)

    monkeypatch.setattr(store, "points", points)
    cards = asked(client, "studies")["studies"]
    best = {card["study"]: card["best_accuracy"] for card in cards}
    assert (best["s"], read) == (0.7, [])
    shown = asked(client, "points", study="s")
    assert len(shown["front"]) + len(shown["others"]["id"]) == 3
    assert read == [("s", Kind.SEARCH, number) for number in range(3)]
    read.clear()
    trained(store, "s", 3, 0.9)
    best = {card["study"]: card["best_accuracy"] for card in asked(client, "studies")["studies"]}
    assert (best["s"], read) == (0.9, [("s", Kind.SEARCH, 3)])
