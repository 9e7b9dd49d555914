"""Who may ask the server for what: no route of ours answers without an account, readers change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask

from search.service.access import API, LARGEST, guard, keep_on_this_machine
from search.service.account_check import only_reads
from storage.server_users import password_of, users_environment
from storage.settings import Settings

PASSWORD = "the admin's password"
EVERY_ROUTE = Path(__file__).with_name("every_route.py")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("users")
    command = [sys.executable, "-W", "ignore", str(EVERY_ROUTE), str(folder), PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_without_an_account_nothing_answers_but_what_the_docs_name(answers: dict[str, Any]) -> None:
    assert len(answers["routes"]) > 400, "MLflow's too"
    answered = {route for route, by in answers["routes"].items() if by["nobody"] != 401}
    assert {route.partition(" ")[2] for route in answered} == {"/health", "/static-files/x"}
    for who in ("nobody", "wrong"):
        assert answers["user"][who]["error"].startswith("a name and a password are needed")


@pytest.mark.slow
def test_readers_read_all_of_ours_and_admins_change(answers: dict[str, Any]) -> None:
    ours = {route: by for route, by in answers["routes"].items() if "admin" in by}
    assert len(ours) > 30
    for route, by in ours.items():
        if route.startswith(("GET", "HEAD", "OPTIONS")):
            assert by["reader"] == by["admin"], route
            assert by["reader"] not in (401, 403), route
            assert by["reader"] < 500, route
        elif route == f"POST {API}/inspected":
            assert by["reader"] == by["admin"] == 400, "looks at a point, and the query names none"
        else:
            assert by["reader"] == 403, route
            assert by["admin"] not in (401, 403), route
    assert ours[f"POST {API}/act"]["admin"] == 200


@pytest.mark.slow
def test_readers_change_nothing_of_mlflow_either(answers: dict[str, Any]) -> None:
    """All that its page and its clients send but GET, and does not stand in our list of what reads."""
    asked = {route: by["reader"] for route, by in answers["routes"].items() if "reader" in by}
    mlflow = {route: status for route, status in asked.items() if "/dynafront" not in route}
    assert len(mlflow) > 150
    assert set(mlflow.values()) == {403}
    assert mlflow.keys() >= {
        "POST /api/2.0/mlflow/experiments/create",
        "POST /api/2.0/mlflow/runs/create",
        "POST /ajax-api/2.0/mlflow/registered-models/create",
        "PUT /api/2.0/mlflow-artifacts/artifacts/x",
        "POST /v1/traces",
    }


@pytest.mark.slow
def test_readers_are_answered_what_mlflow_asks_by_post(answers: dict[str, Any]) -> None:
    assert len(answers["read"]) == 6
    for path, by in answers["read"].items():
        assert by == {"nobody": 401, "reader": 200, "admin": 200}, path


@pytest.mark.slow
def test_readers_change_their_own_password_and_no_other(answers: dict[str, Any]) -> None:
    assert answers["own"] == {"ada": 403, "ann": 200}


@pytest.mark.slow
def test_a_password_that_is_given_again_holds_and_the_old_one_for_a_minute(
    answers: dict[str, Any],
) -> None:
    assert answers["again"] == {
        "new": 200,
        "old, at once": 200,
        "old, a minute later": 401,
        "new, where none is given": 200,
    }


@pytest.mark.parametrize(
    ("method", "path", "reads"),
    [
        ("POST", "/api/2.0/mlflow/runs/search", True),
        ("POST", "/ajax-api/3.0/mlflow/traces/search", True),
        ("PUT", "/api/2.0/mlflow/runs/search", False),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/mlflow/runs/search", False),
        ("POST", "/api/2.0/mlflow/runs/search/../create", False),
        ("POST", "/graphql/", False),
        ("PATCH", "/api/2.0/mlflow/users/update-password", True),
        ("PATCH", "/api/2.0/mlflow/users/update-admin", False),
        ("GET", "/api/2.0/mlflow/runs/get", True),
        ("DELETE", "/api/2.0/mlflow/users/delete", False),
        ("PROPFIND", "/", False),
    ],
)
def test_what_reads_is_told_by_the_whole_of_the_request(
    method: str, path: str, reads: bool
) -> None:
    assert only_reads(method, path) is reads


@pytest.mark.slow
def test_a_page_learns_who_asks_and_no_child_learns_the_password(answers: dict[str, Any]) -> None:
    assert answers["user"]["reader"] == {"name": "ann", "admin": False}
    assert answers["user"]["admin"] == {"name": "ada", "admin": True}
    assert answers["left"] is None


@pytest.fixture
def app() -> Flask:
    routes = Blueprint("dynafront", __name__)
    guard(routes)
    keep_on_this_machine(routes)
    routes.add_url_rule(f"{API}/act", "act", lambda: {"done": True}, methods=["POST"])
    routes.add_url_rule(f"{API}/read", "read", lambda: {"read": True})
    app = Flask("test")
    app.register_blueprint(routes)
    return app


def test_no_form_of_another_site_changes_anything(app: Flask) -> None:
    client = app.test_client()
    assert client.post(f"{API}/act", json={}).status_code == 200
    assert client.post(f"{API}/act", data={"a": "b"}).status_code == 415
    text = client.post(f"{API}/act", data="{}", content_type="text/plain")
    assert text.get_json() == {
        "error": "what changes something takes JSON: Content-Type: application/json"
    }
    for origin, status in (("http://evil.example", 403), ("http://localhost", 200)):
        answer = client.post(f"{API}/act", json={}, headers={"Origin": origin})
        assert answer.status_code == status


def test_no_page_of_another_site_makes_this_one_work(app: Flask) -> None:
    client = app.test_client()
    for site, mode, status in (
        ("cross-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
    ):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        assert client.get(f"{API}/read", headers=headers).status_code == status


def test_a_large_request_is_refused(app: Flask) -> None:
    answer = app.test_client().post(f"{API}/act", json={"a": "x" * LARGEST})
    assert (answer.status_code, answer.get_json()) == (
        413,
        {"error": "a request has at most 1,048,576 bytes"},
    )


def test_without_users_other_machines_get_no_answer(app: Flask) -> None:
    client = app.test_client()
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("", 403)):
        answer = client.get(f"{API}/read", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status
    assert "dynafront serve" in answer.get_json()["error"]


def test_every_answer_tells_the_browser_to_be_careful(app: Flask) -> None:
    headers = app.test_client().get(f"{API}/read").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["Cache-Control"] == "no-store"


def test_the_files_of_the_accounts_are_private(tmp_path: Path) -> None:
    settings = Settings.model_validate({"storage": {"folder": tmp_path / "50%"}})
    first = users_environment(settings, given={"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD})
    again = users_environment(settings, given={"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD})
    assert first == again, "the secret stays"
    assert {oct(file.stat().st_mode & 0o777) for file in settings.folder.iterdir()} == {"0o600"}
    assert "50%%" in Path(first["MLFLOW_AUTH_CONFIG_PATH"]).read_text()


@pytest.mark.parametrize(
    ("content", "mode", "match"),
    [
        (PASSWORD, 0o644, "others on this machine can read it; run chmod 600"),
        ("\n", 0o600, "is empty"),
        ("short", 0o600, "has 5 characters: put one of 12 characters or more into"),
        ("password1234", 0o600, "MLflow's first default, known to all"),
    ],
)
def test_a_password_that_others_know_starts_no_server(
    tmp_path: Path, content: str, mode: int, match: str
) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    file.chmod(mode)
    settings = Settings.model_validate({"storage": {"folder": tmp_path / "data"}})
    with pytest.raises(ValueError, match=match):
        users_environment(settings, file, given={})
    with pytest.raises(ValueError, match="there is no admin yet"):
        users_environment(settings, given={})
    assert not (tmp_path / "data").exists()


def test_a_password_that_systemd_hands_over_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "admin"
    file.write_text(PASSWORD)
    file.chmod(0o440)  # the right of an access list shows as one of the group
    with pytest.raises(ValueError, match="others on this machine"):
        password_of(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert password_of(file) == PASSWORD
