"""Addresses of the pages and of the REST interface: what they read. What they do is in `action_routes`.

Paths are fixed and names stand in the query: an MLflow server with users lists exactly these paths as allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from search.service.access import API, guard, signed_in
from search.service.action_routes import FILES, add_actions, add_download, job_reads
from search.service.client_reads import client_reads
from search.service.openapi import UNCHANGED, document
from search.service.views import Views
from storage.errors import StorageError
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from flask import Blueprint, Response

PAGES = "/dynafront"
YEAR = 31_536_000  # seconds
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
# nothing but our own files; styles in elements are plotly's
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'self'"


def blueprint(store: Store, settings: Settings) -> Blueprint:
    """All routes, reading from a store."""
    from flask import Blueprint

    routes = Blueprint("dynafront", __name__)
    guard(routes)
    _add_pages(routes)
    _add_reads(routes, Views(store, settings.folder), job_reads(store, settings, _asked, _number))
    add_download(routes, API, store, settings, _asked, _number)
    add_actions(routes, API, store, settings)
    return routes


def _add_pages(routes: Blueprint) -> None:
    names = {"": "studies.html", "study": "study.html"}
    names |= {name: name for name in ("common.js", "studies.js", "study.js", "style.css")}
    names |= FILES
    for path, name in names.items():
        routes.add_url_rule(
            f"{PAGES}/{path}", f"page {name.replace('.', ' ')}", partial(_page, name)
        )
    routes.add_url_rule(f"{PAGES}/plotly.js", "plotly", _plotly)


def _page(name: str) -> Response:
    from flask import Response

    content = files("search.service").joinpath("pages", name).read_bytes()
    answer = Response(content, content_type=f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Cache-Control"] = "no-cache"
    return answer


def _plotly() -> Response:
    from flask import Response

    content = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    answer = Response(content, content_type="text/javascript; charset=utf-8")
    answer.headers["Cache-Control"] = f"public, max-age={YEAR}"
    return answer


def _add_reads(routes: Blueprint, views: Views, jobs: Mapping[str, Callable[[], Any]]) -> None:
    """The REST interface; `PATHS` of the OpenAPI document names the same."""
    reads: dict[str, Callable[[], Any]] = {
        "studies": lambda: {"studies": views.studies()},
        "study": lambda: views.study(_asked("study")),
        "points": lambda: views.points(_asked("study")),
        "point": lambda: views.point(_asked("study"), _number(_asked("id"))),
        "answer": lambda: views.answer(_asked("study"), _asked("max"), _asked("axis", "") or None),
        "trials": lambda: {"trials": views.trials(_asked("study"))},
        "user": signed_in,
        "openapi.json": document,
        **client_reads(views.store, _asked),
        **jobs,
    }
    for path, make in reads.items():
        answer = _if_changed(make, views) if f"/{path}" in UNCHANGED else partial(_read, make)
        routes.add_url_rule(f"{API}/{path}", f"read {path.replace('.', ' ')}", answer)


def _asked(name: str, default: str | None = None) -> str:
    """What stands in the query. Raises ValueError where it has to and does not."""
    from flask import request

    value = request.args.get(name, "") or default
    if value is None:
        raise ValueError(f"?{name}= is missing")
    return value


def _read(make: Callable[[], Any]) -> tuple[Response, int]:
    """JSON of what it makes; a mistake of whoever asks is one line, with status 404 or 400."""
    from flask import jsonify

    try:
        return jsonify(make()), 200
    except ValueError as error:
        missing = str(error).startswith("there is no")
        return jsonify({"error": str(error)}), 404 if missing else 400
    except StorageError as error:
        return jsonify({"error": str(error)}), 503


def _if_changed(make: Callable[[], Any], views: Views) -> Callable[[], Any]:
    """As `_read`; a browser that has the study's newest state gets 304 and no content."""

    def answered() -> Any:
        from flask import Response, request

        try:
            tag = f'"{views.stamp(_asked("study"))}"'
        except (ValueError, StorageError):
            return _read(make)
        if request.headers.get("If-None-Match") == tag:
            return Response(status=304, headers={"ETag": tag})
        answer, status = _read(make)
        if status == 200:
            answer.headers["ETag"] = tag
            answer.headers["Cache-Control"] = "no-cache"
        return answer, status

    return answered


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ValueError("?id= is not the number of a point")
    return int(text)
