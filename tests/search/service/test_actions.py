"""Actions: what each starts, as a command line, and what it refuses."""

from __future__ import annotations

import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from search.service import jobs
from search.service.routes import API, blueprint
from search.spec import parse_study
from storage.records import JobState
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

TEXT = """\
study: s  # mine
data: digits
families: [gated_resnet]
budget: {trials: 4, epochs: 1}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    found.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e8})
    found.add_trial("s", "search", 0, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
    points = [operating_point(0.9, 1e6, chosen=True)]
    found.finish_trial("s", "search", 0, points=points, result={}, seconds=2.0)
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines of jobs that were started; none runs."""
    found: list[list[str]] = []
    monkeypatch.setattr(jobs.JobQueue, "_start", lambda _, job: found.append(job.arguments))
    return found


def client_of(store: Store, folder: Path, **server: Any) -> FlaskClient:
    app = Flask("test")
    settings = Settings.model_validate({"storage": {"folder": folder}, "server": server})
    app.register_blueprint(blueprint(store, settings))
    return app.test_client()


@pytest.fixture
def client(store: Store, tmp_path: Path) -> FlaskClient:
    return client_of(store, tmp_path)


def told(client: FlaskClient, path: str, status: int, **body: Any) -> Any:
    answer = client.post(f"{API}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_a_study_is_launched_from_its_text(
    client: FlaskClient, started: list[list[str]], store: Store
) -> None:
    text = TEXT.replace("study: s ", "study: new ")
    answer = told(client, "launch", 202, text=text, workers=0, baselines=True)
    (arguments,) = started
    assert arguments[0] == "search"
    assert arguments[2:] == ["--workers", "0", "--baselines"]
    assert Path(arguments[1]).name == "new.yml"
    assert Path(arguments[1]).read_text() == text
    assert answer["command"] == f"dynafront {' '.join(arguments)}"
    job = store.jobs.job(answer["job"]["id"])
    assert (job.kind, job.study, job.state) == ("search", "new", JobState.RUNNING)


def test_a_study_is_launched_from_a_file_below_the_data_folder(
    client: FlaskClient, started: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "mine.yml").write_text(TEXT.replace("study: s ", "study: new "))
    told(client, "launch", 202, file="mine.yml")
    assert Path(started[0][1]).name == "new.yml"
    (tmp_path / "link.yml").symlink_to("/etc/passwd")
    for name in ("../mine.yml", "/etc/passwd", "link.yml", "dynafront.db"):
        assert "is not a .yml file below" in told(client, "launch", 400, file=name)["error"]
    assert "cannot be read" in told(client, "launch", 400, file="nosuch.yml")["error"]
    assert "either text" in told(client, "launch", 400)["error"]
    assert len(started) == 1


def test_nothing_is_launched_that_the_command_line_would_refuse(
    client: FlaskClient, started: list[list[str]]
) -> None:
    for wrong, said in (
        ("trials: 4", "budget.trails: no such key"),
        ("data: digits", "data: 'nosuch' is not a data set"),
    ):
        right = {"trials: 4": "trails: 4", "data: digits": "data: nosuch"}[wrong]
        assert said in told(client, "launch", 400, text=TEXT.replace(wrong, right))["error"]
    assert started == []


def test_a_study_that_is_searched_is_not_launched_again(
    client: FlaskClient, started: list[list[str]], store: Store
) -> None:
    store.take_lease("s", "elsewhere:1:x", 60)
    for path, body in (("launch", {"text": TEXT}), ("resume", {}), ("more", {"trials": 2})):
        study = {} if path == "launch" else {"study": "s"}
        assert "is being searched" in told(client, path, 400, **study, **body)["error"]
    store.release_lease("s", "elsewhere:1:x")
    told(client, "resume", 202, study="s", retry_failed=True)
    assert started[0][2:] == ["--retry-failed"]
    assert "is being searched" in told(client, "resume", 400, study="s")["error"], "by the job"


def test_more_trials_change_the_total_alone(client: FlaskClient, started: list[list[str]]) -> None:
    told(client, "more", 202, study="s", trials=6)
    assert Path(started[0][1]).read_text() == TEXT.replace("trials: 4", "trials: 10")


def test_stopping_ends_a_search_as_ctrl_c_does(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    assert "is not being searched" in told(client, "stop", 400, study="s")["error"]
    store.take_lease("s", f"{socket.gethostname()}:4711:x", 60)
    assert told(client, "stop", 200, study="s")["command"] == "kill 4711"
    assert sent[-1] == (4711, signal.SIGTERM)
    store.release_lease("s", f"{socket.gethostname()}:4711:x")
    store.take_lease("s", "elsewhere:1:x", 60)
    assert told(client, "stop", 200, study="s")["command"].startswith("Ctrl-C on elsewhere")
    assert store.is_asked_to_stop("s", "elsewhere:1:x")
    assert sent[-1] == (4711, signal.SIGTERM), "no process of this machine"


def test_a_search_that_waits_is_stopped_before_it_begins(
    client: FlaskClient, store: Store, started: list[list[str]]
) -> None:
    told(client, "launch", 202, text=TEXT.replace("study: s ", "study: first "))
    waiting = told(client, "resume", 202, study="s")["job"]
    assert waiting["state"] == "queued", "one search at a time"
    assert told(client, "stop", 200, study="s")["stopped"]
    assert store.jobs.job(waiting["id"]).state is JobState.CANCELLED
    assert len(started) == 1


def test_a_deletion_repeats_the_name(client: FlaskClient, started: list[list[str]]) -> None:
    assert "repeat the name" in told(client, "delete", 400, study="s", confirm="t")["error"]
    told(client, "delete", 202, study="s", confirm="s", mlflow=True)
    assert started == [["delete", "s", "--yes", "--mlflow"]]


def test_a_point_is_exported_into_the_data_folder_once_at_a_time(
    client: FlaskClient, store: Store, started: list[list[str]], tmp_path: Path
) -> None:
    point = store.points("s")[0].id
    folder = tmp_path / "exports" / "s" / f"point-{point}"
    answer = told(client, "export", 202, study="s", point=point)
    assert started == [["export", "s", "--point", str(point), "--out", str(folder), "--force"]]
    again = told(client, "export", 202, study="s", point=point)
    assert again["job"]["id"] == answer["job"]["id"]
    second = told(client, "register", 202, study="s", point=point)
    assert len(started) == 1, "both would write the same folder"
    store.jobs.finish(answer["job"]["id"], JobState.DONE)
    assert client.get(f"{API}/job?id={second['job']['id']}").get_json()["state"] == "running"
    assert started[1][-2:] == ["--force", "--register"]
    assert "is not one of study s" in told(client, "export", 400, study="s", point=99)["error"]


def test_a_check_names_the_line_and_the_size_of_the_space(client: FlaskClient) -> None:
    fine = told(client, "check", 200, text=TEXT)
    assert fine["errors"] == []
    assert fine["known"]
    assert fine["space"]["gated_resnet"]["combinations"] > 1
    assert fine["values"]["budget"] == {"trials": 4, "epochs": 1}
    assert "4 trials" in fine["words"]
    (error,) = told(client, "check", 200, text=TEXT.replace("epochs: 1", "epochs: none"))["errors"]
    assert (error["key"], error["line"]) == ("budget.epochs", 4)
    assert error["message"].startswith("budget.epochs: 'none'")
    (error,) = told(client, "check", 200, text="study: [\n")["errors"]
    assert error["line"] == 2


def test_a_form_changes_the_text_and_gets_it_checked(client: FlaskClient) -> None:
    answer = told(client, "edit", 200, text=TEXT, changes={"budget.trials": 0})
    assert answer["text"] == TEXT.replace("trials: 4", "trials: 0")
    assert answer["errors"][0]["key"] == "budget.trials"


def test_images_are_named_by_path_where_that_is_allowed(
    store: Store, tmp_path: Path, started: list[list[str]]
) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    text = TEXT.replace("digits", f"folder:{images}")
    alone = client_of(store, data)
    assert told(alone, "check", 200, text=text)["errors"] == []
    named = {"host": "0.0.0.0", "allowed_hosts": ["nets.lan"]}
    (error,) = told(client_of(store, data, **named), "check", 200, text=text)["errors"]
    assert error["key"] == "data"
    assert "lies outside the folders" in error["message"]
    opened = client_of(store, data, **named, data_folders=[str(images)])
    assert told(opened, "check", 200, text=text)["errors"] == []
    weights = f"{text}init_from: {tmp_path / 'x.safetensors'}\n"
    assert told(opened, "check", 200, text=weights)["errors"][0]["key"] == "init_from"
    rooted = f"{TEXT}data_root: {tmp_path}\n"
    assert told(opened, "check", 200, text=rooted)["errors"][0]["key"] == "data_root"
    inside = f"{TEXT}data_root: {images}\n"
    assert told(opened, "check", 200, text=inside)["errors"] == []
    (images / "out").symlink_to(tmp_path)
    beyond = text.replace(str(images), f"{images}/out")
    assert told(opened, "check", 200, text=beyond)["errors"][0]["key"] == "data"
    assert "outside" in told(opened, "suggest", 400, data="folder:/etc")["error"]
    told(opened, "suggest", 202, data=str(images), hours=3)
    assert started[-1][:3] == ["init", "--hours", "3"]
    assert started[-1][-2:] == ["--", str(images)]


def test_bodies_are_checked_before_anything_else(client: FlaskClient) -> None:
    assert told(client, "stop", 400)["error"] == "study: field required"
    assert "no such field" in told(client, "stop", 400, study="s", x=1)["error"]
    assert "valid integer" in told(client, "export", 400, study="s", point="1")["error"]
    assert told(client, "stop", 404, study="nosuch")["error"] == "there is no study nosuch"
    assert client.post(f"{API}/stop", data="study=s").status_code == 415
    assert client.post(f"{API}/stop", json=[1]).status_code == 400
    large = client.post(f"{API}/check", json={"text": "#" * 2_000_000})
    assert large.status_code == 413
    for path in ("launch", "stop", "delete"):
        assert client.get(f"{API}/{path}").status_code == 405


def test_what_else_an_exported_folder_holds_is_chosen(
    client: FlaskClient, store: Store, started: list[list[str]]
) -> None:
    point = store.points("s")[0].id
    answer = told(client, "export", 202, study="s", point=point)
    formats = ["int8", "bfloat16"]
    told(client, "export", 202, study="s", point=point, whole_curve=True, quantize=formats)
    assert len(started) == 1, "it waits until the folder is free"
    store.jobs.finish(answer["job"]["id"], JobState.DONE)
    client.get(f"{API}/jobs")
    assert started[-1][-6:-1] == ["--whole-curve", "--quantize", "int8", "--quantize", "bfloat16"]
    again = told(client, "export", 202, study="s", point=point)
    assert again["job"]["id"] == answer["job"]["id"] + 1, "what is asked for is in it"
    assert len(started) == 2
    program = told(client, "export", 202, study="s", point=point, formats=["pt2"])
    assert program["command"].endswith("--format pt2 --force")
    assert (
        "formats.0: " in told(client, "export", 400, study="s", point=point, formats=["x"])["error"]
    )
    assert (
        "quantize.0: "
        in told(client, "export", 400, study="s", point=point, quantize=["x"])["error"]
    )


def test_a_cascade_has_no_whole_curve(
    client: FlaskClient, store: Store, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = store.points("s")[0]
    cascade = replace(point, knobs={"policy": "cascade"})
    monkeypatch.setattr("search.service.actions.chosen", lambda *_: cascade)
    refused = told(client, "export", 400, study="s", point=point.id, whole_curve=True)
    assert refused["error"].startswith("whole_curve: the file of a cascade answers at one point")
    assert started == []
