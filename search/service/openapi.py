"""The REST interface as an OpenAPI document."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

STUDY = {"study": "the study's name"}
POINT = STUDY | {"id": "the point's number"}
# path below /api/3.0/dynafront: what it gives, and what stands in the query; optional names end with "?"
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "/studies": ("every study: state, progress, a small front", {}),
    "/study": ("one study: state, title, axes", STUDY),
    "/points": ("the front, the baselines and other points of a study; has an ETag", STUDY),
    "/point": ("one point: its trial's curve, and the baseline beside it", POINT),
    "/answer": (
        "the most accurate point within a budget, in words",
        STUDY | {"max": "the budget, such as 20M", "axis?": "a cost; the study's own by default"},
    ),
    "/trials": ("a row for each training; has an ETag", STUDY),
    "/trial": (
        "one training: its curves by epoch, its points, every attempt that failed",
        STUDY | {"number": "its number", "kind?": "search, static or finalist; search by default"},
    ),
    "/why": ("importance of each dimension, and all trainings with their settings", STUDY),
    "/compare": (
        "two to four studies beside each other, in the words of dynafront compare",
        {"study": "a study's name; once for each"},
    ),
    "/inspected": ("what a point's network does with images, as far as it was measured", POINT),
    "/inspected.html": ("all of that as a page", POINT),
    "/image": (
        "one of those images, as PNG",
        POINT | {"row": "cheapest, dearest or wrong", "number": "which of them, from 0"},
    ),
    "/openapi.json": ("this document", {}),
}
CONTENT = {"/inspected.html": "text/html", "/image": "image/png"}  # JSON elsewhere
# what a POST to the same path does
ASKED = {"/inspected": "measure the point's network on images, unless it was"}


def document() -> dict[str, Any]:
    """OpenAPI 3.1: all reads, with what they need."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "dynafront", "version": _version()},
        "servers": [{"url": "/api/3.0/dynafront"}],
        "paths": {path: _operations(path, *what) for path, what in PATHS.items()},
    }


def _operations(path: str, summary: str, query: dict[str, str]) -> dict[str, Any]:
    found = {"get": _operation(path, summary, query)}
    if path in ASKED:
        found["post"] = _operation(path, ASKED[path], query) | {"operationId": f"ask-{path[1:]}"}
    return found


def _operation(path: str, summary: str, query: dict[str, str]) -> dict[str, Any]:
    error = {
        "description": "what is wrong, in one line",
        "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
    }
    answers = {
        "200": {
            "description": summary,
            "content": {CONTENT.get(path, "application/json"): {"schema": {"type": "object"}}},
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
