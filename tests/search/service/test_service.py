"""Pages and REST beside MLflow: what they answer, from a study of a few trials."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from search.front.stored import study_front
from search.service.actions import ACTIONS
from search.service.openapi import PATHS
from search.service.page_files import FILES
from search.service.routes import API, blueprint
from search.service.views import MOST_OTHERS
from search.spec import parse_study
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point
from tests.search.service.chromium import CHROMIUM
from tests.storage.test_mlflow_server import SERVE, free_port

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 4, epochs: 1}\n"
EVIL = "</script><img src=x onerror=alert(1)>"


def ended(store: Store, study: str, kind: str, number: int, *points: tuple[float, float]) -> None:
    params = {"backbone": "resnet8", "width": 0.5}
    store.add_trial(study, kind, number, "gated_resnet", params, 0, 1)
    made = [
        operating_point(a, m, knobs={"tau": round(0.1 * i + 0.1, 1)}, chosen=not i)
        for i, (a, m) in enumerate(points)
    ]
    store.finish_trial(study, kind, number, points=made, result={}, seconds=2.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    for name in ("s", EVIL):
        found.add_study(name, spec, TEXT, {"accuracy": 0.1, "macs": 1e8})
    ended(found, "s", "static", 0, (0.85, 20e6))
    ended(found, "s", "search", 0, (0.8, 2e6), (0.7, 1e6), (0.6, 3e6))
    ended(found, "s", "search", 1, (0.95, 10e6))
    found.add_trial("s", "search", 2, "gated_resnet", {"backbone": "resnet14"}, 0, 1)
    found.fail_trial("s", "search", 2, error=f"out of memory {EVIL}", epoch=1, trace="")
    return found


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Flask:
    made = Flask("test")
    settings = Settings.model_validate({"storage": {"folder": tmp_path}})
    made.register_blueprint(blueprint(store, settings))
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def asked(client: FlaskClient, path: str, status: int = 200, **query: Any) -> Any:
    answer = client.get(f"{API}/{path}", query_string=query)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_the_front_is_the_one_that_the_terminal_prints(client: FlaskClient, store: Store) -> None:
    front = study_front(store, store.study("s"))
    shown = asked(client, "points", study="s")
    assert [(p["id"], p["accuracy"], p["macs_mean"]) for p in shown["front"]] == [
        (p.id, p.accuracy, p.macs_mean) for p in front.members
    ]
    assert [p["accuracy"] for p in shown["front"]] == [0.7, 0.8, 0.95]
    assert [p["accuracy"] for p in shown["baselines"]] == [0.85]
    assert shown["others"]["accuracy"] == [0.6]
    assert shown["others"]["name"] == ["trial 0"]
    assert {p["standing"] for p in shown["front"]} == {"CHEAPER"}


def test_a_study_has_its_title_its_state_and_its_axes(client: FlaskClient) -> None:
    study = asked(client, "study", study="s")
    assert study["title"].startswith("s: 3 points on the front")
    assert study["state"].startswith("stopped")
    assert study["axes"]["macs"] == "MACs per image (mean)"
    assert study["trials"]["by_state"] == {"complete": 2, "failed": 1}


def test_the_answer_to_a_budget_names_the_static_network_beside_it(client: FlaskClient) -> None:
    cheap = asked(client, "answer", study="s", max="5M")
    assert cheap["words"] == (
        "within 5.00 M MACs: trial 0, 80.0 % (79.0 % to 81.0 %); no static network is that cheap"
    )
    dear = asked(client, "answer", study="s", max="20M")
    assert dear["words"] == (
        "within 20.0 M MACs: trial 1, 95.0 % (94.0 % to 96.0 %); the best static network within it has 85.0 %: "
        "significantly better"
    )
    assert asked(client, "answer", 400, study="s", max="10")["error"].startswith("nothing costs")


def test_what_always_one_class_has_is_no_answer_to_a_budget(
    client: FlaskClient, store: Store
) -> None:
    store.set_data("s", {"majority": 0.75})
    assert asked(client, "answer", study="s", max="3M")["words"].startswith(
        "within 3.00 M MACs: trial 0, 80.0 %"
    )
    assert (
        "the cheapest point takes 2.00 M"
        in asked(client, "answer", 400, study="s", max="1M")["error"]
    )
    assert "is not a number" in asked(client, "answer", 400, study="s", max="many")["error"]
    assert "is no cost" in asked(client, "answer", 400, study="s", max="5M", axis="x")["error"]


def test_a_point_comes_with_its_trials_curve_and_what_exports_it(client: FlaskClient) -> None:
    best = asked(client, "points", study="s")["front"][1]
    point = asked(client, "point", study="s", id=best["id"])
    assert (point["training"], len(point["curve"])) == ("trial 0", 3)
    assert [q["macs_mean"] for q in point["curve"]] == [1e6, 2e6, 3e6]
    assert point["beside"]["accuracy"] == 0.85
    assert point["export"] == f"dynafront export s --point {best['id']}"
    for wrong in ("-1", "x", "9" * 30):
        assert "not the number" in asked(client, "point", 400, study="s", id=wrong)["error"]
    assert "no point 999" in asked(client, "point", 400, study="s", id=999)["error"]


def test_trials_say_what_failed_and_which_are_on_the_front(client: FlaskClient) -> None:
    trials = {t["name"]: t for t in asked(client, "trials", study="s")["trials"]}
    assert trials["trial 0"]["on_front"]
    assert not trials["baseline 0"]["on_front"]
    assert trials["trial 2"]["error"].startswith("out of memory")
    assert trials["trial 1"]["network"].startswith("gated_resnet resnet8 x0.5")


def test_a_browser_that_has_the_newest_state_gets_no_content(
    client: FlaskClient, store: Store
) -> None:
    first = client.get(f"{API}/points?study=s")
    tag = {"If-None-Match": first.headers["ETag"]}
    assert client.get(f"{API}/points?study=s", headers=tag).status_code == 304
    ended(store, "s", "search", 3, (0.99, 30e6))
    newer = client.get(f"{API}/points?study=s", headers=tag)
    assert newer.status_code == 200
    assert newer.get_json()["front"][-1]["accuracy"] == 0.99


def test_what_is_not_there_is_one_line(client: FlaskClient) -> None:
    for path in ("study", "points", "trials", "why"):
        assert asked(client, path, 404, study="nosuch") == {"error": "there is no study nosuch"}
        assert asked(client, path, 400) == {"error": "?study= is missing"}


def test_names_stay_text(client: FlaskClient) -> None:
    cards = {card["study"]: card for card in asked(client, "studies")["studies"]}
    assert set(cards) == {"s", EVIL}
    answer = client.get(f"{API}/study?study={quote(EVIL)}")
    assert answer.content_type.startswith("application/json")
    page = client.get("/dynafront/study?name=" + quote(EVIL))
    assert EVIL not in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"], "default-src 'self' holds"
    for name in (file for file in FILES if file.endswith(".js")):
        script = client.get(f"/dynafront/{name}")
        assert script.status_code == 200
        assert "innerHTML" not in script.text
        assert "insertAdjacentHTML" not in script.text


def test_only_reads_are_answered(client: FlaskClient) -> None:
    assert client.post(f"{API}/studies").status_code == 405
    assert client.get("/dynafront/../pyproject.toml").status_code == 404


def test_the_document_names_every_address(app: Flask, client: FlaskClient) -> None:
    known = {str(rule).removeprefix(API) for rule in app.url_map.iter_rules() if API in str(rule)}
    assert known == set(PATHS) | set(ACTIONS)
    document = asked(client, "openapi.json")
    assert set(document["paths"]) == known
    assert document["paths"]["/answer"]["get"]["parameters"][2]["required"] is False


@pytest.mark.slow
def test_a_thousand_trials_are_shown_at_once(client: FlaskClient, store: Store) -> None:
    for number in range(10, 1010):
        ended(store, "s", "search", number, *[(0.5 + i / 100, 1e6 * (i + 1)) for i in range(10)])
    asked(client, "points", study="s")
    start = perf_counter()
    shown = asked(client, "points", study="s")
    assert perf_counter() - start < 1.5  # 0.1 s on a quiet machine
    assert len(shown["others"]["id"]) + shown["left_out"] + len(shown["front"]) == 10_004
    assert len(shown["others"]["id"]) <= MOST_OTHERS


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["s", EVIL])
def test_the_page_shows_the_study_in_a_browser(address: str, tmp_path: Path, name: str) -> None:
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    command = [str(CHROMIUM), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    command += [
        "--virtual-time-budget=5000",
        "--dump-dom",
        f"{address}/dynafront/study?name={quote(name)}",
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<img src=x" not in page
    if name == EVIL:
        assert "no operating point yet" in page
        return
    assert "s: 3 points on the front" in page
    assert "within 10.0 M MACs: trial 1, 95.0 %" in page, (
        "the budget that the efficient point needs"
    )
    assert page.count("<td") >= 4 * 7, "the trials"
    assert "dynafront export s --point" in page
    assert "js-plotly-plot" in page, "there is a chart"


@pytest.mark.slow
def test_the_mlflow_server_has_the_pages(tmp_path: Path) -> None:
    port = free_port()
    Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}").close()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"

        def got(path: str, **headers: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            connection.close()
            return status, content

        assert got("/dynafront/")[0] == 200
        assert json.loads(got(f"{API}/studies")[1]) == {"studies": []}
        assert got(f"{API}/studies", Host="evil.example")[0] == 403
        assert got("/", Host="evil.example")[0] == 403
        assert b"mlflow" in got("/")[1].lower(), "MLflow's own page, once it is loaded"
        assert got("/health")[0] == 200
    finally:
        process.terminate()
        process.communicate(timeout=30)
