"""The REST interface as an OpenAPI document."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from search.service.actions import ACTIONS
from search.service.bodies import Body

ERROR = {
    "description": "what is wrong, in one line",
    "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
}
STUDY = {"study": "the study's name"}
# path below /api/3.0/dynafront: what it gives, and what stands in the query; optional names end with "?"
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "/studies": ("every study: state, progress, a small front", {}),
    "/study": ("one study: state, title, axes", STUDY),
    "/points": ("the front, the baselines and other points of a study; has an ETag", STUDY),
    "/point": (
        "one point: its trial's curve, and the baseline beside it",
        STUDY | {"id": "its number"},
    ),
    "/answer": (
        "the most accurate point within a budget, in words",
        STUDY | {"max": "the budget, such as 20M", "axis?": "a cost; the study's own by default"},
    ),
    "/trials": ("a row for each training; has an ETag", STUDY),
    "/choices": ("what a new study can be made of, and a text to begin with", {}),
    "/jobs": ("the newest jobs, of all studies or of one", {"study?": "the study's name"}),
    "/job": ("one job, with the end of its log", {"id": "its number"}),
    "/exports": ("the exported models of a study", STUDY),
    "/export": (
        "one exported model: what was measured, its card, how to use it",
        STUDY | {"id": "its number"},
    ),
    "/download": ("the files of an exported model, as a zip", STUDY | {"id": "its number"}),
    "/openapi.json": ("this document", {}),
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1: all reads and actions, with what they need."""
    paths = {path: {"get": _operation(path, *what)} for path, what in PATHS.items()}
    for path, (summary, body, _) in ACTIONS.items():
        paths.setdefault(path, {})["post"] = _action(path, summary, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dynafront", "version": _version()},
        "servers": [{"url": "/api/3.0/dynafront"}],
        "paths": paths,
    }


def _action(path: str, summary: str, body: type[Body]) -> dict[str, Any]:
    answer = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "operationId": f"act-{path.strip('/')}",
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body.model_json_schema()}},
        },
        "responses": {
            "200": {"description": "what came out", **answer},
            "202": {"description": "a job that was started, or waits", **answer},
            **dict.fromkeys(("400", "404", "413", "415", "503"), ERROR),
        },
    }


def _operation(path: str, summary: str, query: dict[str, str]) -> dict[str, Any]:
    answers = {
        "200": {
            "description": summary,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    }
    return {
        "operationId": path.strip("/").partition(".")[0],
        "summary": summary,
        "parameters": [
            {
                "name": name.rstrip("?"),
                "in": "query",
                "required": not name.endswith("?"),
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in query.items()
        ],
        "responses": answers | ({"400": ERROR, "404": ERROR} if query else {}),
    }


def _version() -> str:
    try:
        return version("dynafront")
    except PackageNotFoundError:
        return "0"
