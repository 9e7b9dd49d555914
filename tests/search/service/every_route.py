"""Asks every route of a server with users, MLflow's too, as nobody, as a reader and as an admin.

    python tests/search/service/every_route.py FOLDER PASSWORD

Prints JSON, among it the status by route for each who is asked as. Each `{...}` and `<...>` of a path is `x`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from search.service import access, plugin
from search.service.account_check import READS, only_reads
from storage.server_users import PASSWORD_VARIABLE, users_environment
from storage.settings import Settings

MLFLOW = "/ajax-api/2.0/mlflow"
OURS = ("/api/3.0/dynafront", "/dynafront")
# what MLflow's page asks for by POST
QUESTIONS: dict[str, Any] = {
    f"{MLFLOW}/experiments/search": {"max_results": 1},
    f"{MLFLOW}/experiments/search-datasets": {"experiment_ids": ["0"]},
    f"{MLFLOW}/runs/search": {"experiment_ids": ["0"]},
    f"{MLFLOW}/logged-models/search": {"experiment_ids": ["0"]},
    "/graphql": {
        "query": '{mlflowSearchRuns(input: {experimentIds: ["0"]}) {runs {info {runId}}}}'
    },
    "/ajax-api/3.0/mlflow/traces/search": {
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    },
}
ADMIN = "ada"
READER = {"username": "ann", "password": "a reader's password"}

Headers = list[tuple[bytes, bytes]]


def main() -> None:
    settings = Settings.model_validate({"storage": {"folder": sys.argv[1]}})
    os.environ["MLFLOW_AUTH_ADMIN_USERNAME"] = ADMIN
    os.environ |= users_environment(settings, given={PASSWORD_VARIABLE: sys.argv[2]})
    # what is allowed is not left to a default of MLflow's
    os.environ["MLFLOW_BASIC_AUTH_FAIL_CLOSED"] = "false"
    made = plugin.blueprint

    def with_an_action(*arguments: Any) -> Any:
        routes = made(*arguments)
        path = f"{OURS[0]}/act"
        routes.add_url_rule(path, "act", lambda: {"done": True}, methods=["POST"])
        return routes

    vars(plugin)["blueprint"] = with_an_action
    server = Asked(plugin.app_with_users(settings))
    admin = login(ADMIN, sys.argv[2])
    assert server.ask("POST", "/api/2.0/mlflow/users/create", admin, READER)[0] == 200
    people: dict[str, Headers] = {
        "nobody": [],
        "reader": login(*READER.values()),
        "admin": admin,
    }
    found: dict[str, dict[str, int]] = {}
    for method, path in sorted(every_route(server.app)):
        # MLflow's reading is not asked for: some of it looks for others on the internet
        asking = ["nobody"] if only_reads(method, path) else ["nobody", "reader"]
        asking = [*people] if path.startswith(OURS) else asking
        body: Any = None if method in READS else {}
        by = {who: server.ask(method, path, people[who], body)[0] for who in asking}
        found[f"{method} {path}"] = by
    read = {
        path: {who: server.ask("POST", path, people[who], body)[0] for who in people}
        for path, body in QUESTIONS.items()
    }
    people["wrong"] = login(ADMIN, "x" * 20)
    user = {who: server.ask("GET", f"{OURS[0]}/user", people[who])[1] for who in people}
    own = {
        name: server.ask(
            "PATCH",
            f"{MLFLOW}/users/update-password",
            people["reader"],
            {
                "username": name,
                "password": "another password",
                "current_password": READER["password"],
            },
        )[0]
        for name in (ADMIN, "ann")
    }
    left = os.environ.get(PASSWORD_VARIABLE)
    again = given_again(server, settings, sys.argv[2])
    told = {"routes": found, "read": read, "user": user, "own": own, "left": left, "again": again}
    print(json.dumps(told))


def given_again(server: Asked, settings: Settings, first: str) -> dict[str, int]:
    """What the admin's passwords are worth where the server is started again, with another one and with none."""
    from mlflow.server import auth

    def asked(password: str) -> int:
        return server.ask("GET", f"{OURS[0]}/user", login(ADMIN, password))[0]

    assert asked(first) == 200
    later = "another one, given later"
    os.environ[PASSWORD_VARIABLE] = later
    access.keep_password(auth)
    found = {"new": asked(later), "old, at once": asked(first)}
    auth._USER_AUTH_CACHE.expire(time.monotonic() + 61)
    found["old, a minute later"] = asked(first)
    os.environ |= users_environment(settings, given={})
    access.keep_password(auth)
    return found | {"new, where none is given": asked(later)}


class Asked:
    """An ASGI application that is asked without a server, each time from another address."""

    def __init__(self, app: Any) -> None:
        self.app, self.asked = app, 0

    def ask(
        self, method: str, path: str, headers: Headers, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """The status, and what is answered where that is JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        sent = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
        sent += [(b"content-length", str(len(content)).encode())]
        self.asked += 1
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": sent,
            "client": (f"10.0.{self.asked // 256}.{self.asked % 256}", 1),
            "server": ("localhost", 80),
        }
        answer = asyncio.run(self._answer(scope, content))
        text = b"".join(message.get("body", b"") for message in answer[1:])
        try:
            return answer[0]["status"], json.loads(text)
        except ValueError:
            return answer[0]["status"], {}

    async def _answer(self, scope: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
        request = [{"type": "http.request", "body": content, "more_body": False}]
        answer: list[dict[str, Any]] = []
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if request:
                return request.pop()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            answer.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        await self.app(scope, receive, send)
        return answer


def every_route(app: Any) -> set[tuple[str, str]]:
    """(method, path) of all that Flask and FastAPI serve."""
    from mlflow.server import app as flask_app

    flask = [(method, one.rule) for one in flask_app.url_map.iter_rules() for method in one.methods]
    fast = list(routes_of(app.routes, ""))
    assert len(fast) > 20, "MLflow's artifacts, traces, gateway and jobs"
    return {(method, re.sub(r"<[^>]*>|{[^}]*}", "x", rule)) for method, rule in [*flask, *fast]}


def routes_of(routes: Any, below: str) -> Iterator[tuple[str, str]]:
    for one in routes:
        inner = getattr(one, "original_router", one)
        if getattr(one, "methods", None):
            yield from ((method, below + one.path) for method in one.methods)
        elif getattr(inner, "routes", None):
            context = getattr(one, "include_context", None)
            yield from routes_of(inner.routes, below + (context.prefix if context else ""))


def login(name: str, password: str) -> Headers:
    return [(b"authorization", b"Basic " + b64encode(f"{name}:{password}".encode()))]


if __name__ == "__main__":
    main()
