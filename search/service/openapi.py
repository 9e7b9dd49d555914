"""The REST interface as an OpenAPI document."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

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
    "/user": ("who asks, and whether that account may change something", {}),
    "/openapi.json": ("this document", {}),
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1: all reads, with what they need."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "dynafront", "version": _version()},
        "servers": [{"url": "/api/3.0/dynafront"}],
        "paths": {path: {"get": _operation(path, *what)} for path, what in PATHS.items()},
    }


def _operation(path: str, summary: str, query: dict[str, str]) -> dict[str, Any]:
    error = {
        "description": "what is wrong, in one line",
        "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
    }
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
        "responses": answers | ({"400": error, "404": error} if query else {}),
    }


def _version() -> str:
    try:
        return version("dynafront")
    except PackageNotFoundError:
        return "0"
