"""The OpenAPI document tells the truth: of every answer, of every address that a page asks, whatever is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from search.service.access import API
from search.service.actions import ACTIONS
from search.service.job_models import ACTED, JOB_ANSWERS
from search.service.jobs import JobQueue
from search.service.models import ANSWERS
from search.service.openapi import BINARY, PATHS, document
from search.service.read_models import READ_ANSWERS
from tests.search.service.test_service import app, client, store  # noqa: F401

MODELS = ANSWERS | READ_ANSWERS | JOB_ANSWERS
PAGES = Path(__file__).parents[3] / "search" / "service" / "pages"
ASKED = re.compile(r"\b(?:ask|act|send|post)\(\s*[\"'`]([a-z.]+)[\"'`]")


def test_every_read_has_a_model_of_its_answer() -> None:
    assert set(PATHS) - set(MODELS) == {"/openapi.json", *BINARY}
    assert set(MODELS) <= set(PATHS)
    assert set(ACTED) <= set(ACTIONS)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/studies", {}),
        ("/study", {"study": "s"}),
        ("/points", {"study": "s"}),
        ("/point", {"study": "s", "id": ""}),
        ("/answer", {"study": "s", "max": "20M"}),
        ("/trials", {"study": "s"}),
        ("/trial", {"study": "s", "number": "0"}),
        ("/trial", {"study": "s", "number": "2"}),
        ("/growth", {"study": "s"}),
        ("/why", {"study": "s"}),
        ("/inspected", {"study": "s", "id": ""}),
        ("/choices", {}),
        ("/jobs", {}),
        ("/exports", {"study": "s"}),
        ("/user", {}),
        ("/front", {"study": "s"}),
        ("/picture", {"study": "s"}),
        ("/best", {"study": "s", "max_macs": "5M"}),
    ],
)
def test_an_answer_is_what_its_model_says(
    client: FlaskClient,  # noqa: F811
    path: str,
    query: dict[str, str],
) -> None:
    if "id" in query:
        front = client.get(f"{API}/points", query_string={"study": "s"}).get_json()["front"]
        query = query | {"id": str(front[0]["id"])}
    answer = client.get(f"{API}{path}", query_string=query)
    assert answer.status_code == 200, answer.text
    MODELS[path].model_validate(answer.get_json())


def fetched() -> Iterator[tuple[str, str]]:
    for script in sorted(PAGES.glob("*.js")):
        for path in ASKED.findall(script.read_text(encoding="utf-8")):
            yield script.name, path


def test_every_address_that_a_page_asks_is_in_the_document() -> None:
    found = list(fetched())
    assert ("study.js", "points") in found
    known = set(document()["paths"])
    assert [f"{script}: {path}" for script, path in found if f"/{path}" not in known] == []
    raw = [
        script.name
        for script in PAGES.glob("*.js")
        if script.name != "common.js" and re.search(r"\bfetch\(", script.read_text())
    ]
    assert raw == [], "pages ask through common.js, so that all their addresses are seen here"


BRIEF = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CONFORM = ["status_code", "content_type", "response_schema"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_sent_the_answer_is_documented(
    app: Flask,  # noqa: F811
    mode: GenerationMode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(JobQueue, "_start", lambda *_: None)
    load_all_checks()
    names = ["not_a_server_error", *(f"{name}_conformance" for name in CONFORM)]
    checks = [CHECKS.get_one(name) for name in names]
    schema = schemathesis.openapi.from_wsgi(f"{API}/openapi.json", app)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not operation.query and not operation.body:
            continue  # nothing can be sent wrongly
        cases = operation.as_strategy(generation_mode=mode)

        @BRIEF
        @given(case=cases, known=booleans())
        def sent(case: Any, known: bool) -> None:
            for part in (case.query, case.body):
                if known and isinstance(part, dict) and "study" in part:
                    part["study"] = "s"  # no generator finds the name of a study
            answer = case.call()
            seen.setdefault(case.operation.label, set()).add(answer.status_code)
            case.validate_response(answer, checks=checks)

        sent()
    if mode == GenerationMode.POSITIVE:
        assert set(seen) == set(operations()) - {"GET /openapi.json"}
        assert {200, 404} <= seen["GET /points"]
        assert any(202 in codes for codes in seen.values()), "a job is described too"
    assert 400 in seen["GET /answer"]


def operations() -> Iterator[str]:
    for path, by_method in document()["paths"].items():
        yield from (f"{method.upper()} {path}" for method in by_method)
