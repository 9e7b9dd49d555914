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
from storage.server_users import password_of, users_environment
from storage.settings import Settings

PASSWORD = "the admin's password"
# every route of ours, asked by nobody, by a reader and by an admin
ASK_ALL = """
import json, os, sys
from base64 import b64encode
from pathlib import Path
from storage.server_users import users_environment
from storage.settings import Settings

settings = Settings(storage={"folder": sys.argv[1]})
given = {"MLFLOW_AUTH_ADMIN_PASSWORD": sys.argv[2]}
os.environ |= users_environment(settings, given=given)
os.environ["MLFLOW_BASIC_AUTH_FAIL_CLOSED"] = "false"  # what we allow is not left to a default of MLflow's

import search.service.plugin as plugin
made = plugin.blueprint

def with_an_action(*arguments):
    routes = made(*arguments)
    routes.add_url_rule("/api/3.0/dynafront/act", "act", lambda: {"done": True}, methods=["POST"])
    return routes

plugin.blueprint = with_an_action
plugin.app_with_users(settings)
from mlflow.server import app
client = app.test_client()

def login(name, password):
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}

admin = login("admin", sys.argv[2])
reader = {"username": "ann", "password": "a reader's password"}
assert client.post("/api/2.0/mlflow/users/create", json=reader, headers=admin).status_code == 200
people = {"nobody": {}, "reader": login("ann", reader["password"]), "admin": admin}
found = {}
for rule in app.url_map.iter_rules():
    if rule.endpoint.startswith("dynafront."):
        assert "<" not in rule.rule, "MLflow compares whole paths"
        for method in rule.methods:
            body = {"json": {}} if method not in ("GET", "HEAD", "OPTIONS") else {}
            found[f"{method} {rule.rule}"] = {
                who: client.open(rule.rule, method=method, headers=login, **body).status_code
                for who, login in people.items()
            }
people["wrong"] = login("admin", "x" * 20)
user = {who: client.get("/api/3.0/dynafront/user", headers=login).get_json() for who, login in people.items()}
print(json.dumps({"routes": found, "user": user, "left": os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD")}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("users")
    command = [sys.executable, "-W", "ignore", "-c", ASK_ALL, str(folder), PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_no_route_of_ours_answers_without_an_account(answers: dict[str, Any]) -> None:
    assert len(answers["routes"]) > 30
    for route, by in answers["routes"].items():
        assert by["nobody"] == 401, route
    for who in ("nobody", "wrong"):
        assert answers["user"][who]["error"].startswith("a name and a password are needed")


@pytest.mark.slow
def test_readers_read_and_admins_change(answers: dict[str, Any]) -> None:
    for route, by in answers["routes"].items():
        if route.startswith(("GET", "HEAD", "OPTIONS")):
            assert by["reader"] == by["admin"], route
            assert by["reader"] not in (401, 403), route
            assert by["reader"] < 500, route
        elif route == f"POST {API}/inspected":
            assert by["reader"] == by["admin"] == 400, "looks at a point, and the query names none"
        else:
            assert by["reader"] == 403, route
            assert by["admin"] not in (401, 403), route
    assert answers["routes"][f"POST {API}/act"]["admin"] == 200


@pytest.mark.slow
def test_a_page_learns_who_asks_and_no_child_learns_the_password(answers: dict[str, Any]) -> None:
    assert answers["user"]["reader"] == {"name": "ann", "admin": False}
    assert answers["user"]["admin"] == {"name": "admin", "admin": True}
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
