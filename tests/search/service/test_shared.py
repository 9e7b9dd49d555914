"""Who watches together pays once: an answer is made again only after a second, or after a change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from flask import Blueprint, Flask, Response, jsonify, request
from flask.testing import FlaskClient

from search.service import shared
from search.service.access import API, guard


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A server whose `points` counts how often it is made, with a tag, and whose clock stands still."""
    made: Iterator[int] = count(1)
    routes = Blueprint("dynafront", __name__)
    guard(routes)
    shared.share(routes)

    def points() -> Response:
        number = next(made)
        tag = f'"{request.args.get("study")}"'
        if request.headers.get("If-None-Match") == tag:
            return Response(status=304, headers={"ETag": tag})
        answer = jsonify({"made": number})
        answer.headers["ETag"] = tag
        return answer

    routes.add_url_rule(f"{API}/points", "points", points)
    routes.add_url_rule(f"{API}/user", "user", lambda: {"made": next(made)})
    routes.add_url_rule(f"{API}/stop", "stop", dict, methods=["POST"])
    app = Flask("test")
    app.register_blueprint(routes)
    monkeypatch.setattr(shared, "monotonic", lambda: 5.0)
    return app.test_client()


def made(client: FlaskClient, study: str = "s") -> int:
    answer = client.get(f"{API}/points?study={study}")
    assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{study}"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.get_json()["made"]


def test_an_answer_is_made_once_a_second(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [made(client), made(client), made(client, "other"), made(client)] == [1, 1, 2, 1]
    monkeypatch.setattr(shared, "monotonic", lambda: 6.1)
    assert made(client) == 3


def test_what_changes_something_ends_it(client: FlaskClient) -> None:
    assert made(client) == 1
    client.post(f"{API}/stop", json={})
    assert made(client) == 2


def test_that_nothing_changed_is_shared_too(client: FlaskClient) -> None:
    tag = {"If-None-Match": '"s"'}
    for _ in range(3):
        assert client.get(f"{API}/points?study=s", headers=tag).status_code == 304
    assert made(client) == 2, "a tag that holds is no body for who has none"
    assert client.get(f"{API}/points?study=s", headers=tag).status_code == 304


def test_who_asks_is_never_shared(client: FlaskClient) -> None:
    assert client.get(f"{API}/user").get_json() != client.get(f"{API}/user").get_json()
