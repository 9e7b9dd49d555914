"""Addresses of the REST interface. Every one only reads, but for what measures a point where it was not yet.

Paths are fixed and names stand in the query: an MLflow server with users lists exactly these paths as allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from search.service.background import Background
from search.service.compared import check_names, compared
from search.service.inspected import Asked, Inspected
from search.service.openapi import document
from search.service.page_files import add_pages
from search.service.trial_views import trial, trials
from search.service.views import Views
from search.service.why_views import Why
from storage.errors import StorageError
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from flask import Blueprint, Response

API = "/api/3.0/dynafront"
# of a page of an inspection: its own script and pictures, from nowhere else
SANDBOX = "sandbox allow-scripts; default-src 'none'; img-src data:"
SANDBOX += "; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def blueprint(store: Store, settings: Settings) -> Blueprint:
    """All routes, reading from a store."""
    from flask import Blueprint

    routes = Blueprint("dynafront", __name__)
    add_pages(routes)
    views = Views(store, settings.folder)
    background = Background(settings)
    inspected = Inspected(settings.folder, background)
    _add_reads(routes, views, inspected, Why(store, settings.folder, background))
    _add_files(routes, views, inspected)
    return routes


def _add_reads(routes: Blueprint, views: Views, inspected: Inspected, why: Why) -> None:
    """The REST interface; `PATHS` of the OpenAPI document names the same."""

    def of_study(make: Callable[..., Any], *more: Any) -> Any:
        return make(views.store, *views.known(_asked("study")), *more)

    def asked_point() -> Asked:
        return Asked(*views.training(_asked("study"), _number(_asked("id"))))

    def compared_studies() -> Any:
        names = _all("study")
        check_names(names)
        return compared(views.store, [views.known(name) for name in names])

    reads: dict[str, Callable[[], Any]] = {
        "studies": lambda: {"studies": views.studies()},
        "study": lambda: views.study(_asked("study")),
        "points": lambda: views.points(_asked("study")),
        "point": lambda: views.point(_asked("study"), _number(_asked("id"))),
        "answer": lambda: views.answer(_asked("study"), _asked("max"), _asked("axis", "") or None),
        "trials": lambda: {"trials": of_study(trials)},
        "trial": lambda: of_study(trial, _asked("kind", Kind.SEARCH), _number(_asked("number"))),
        "why": lambda: why.shown(*views.known(_asked("study")), views.stamp(_asked("study"))),
        "compare": compared_studies,
        "inspected": lambda: inspected.shown(asked_point()),
        "openapi.json": document,
    }
    for path, make in reads.items():
        answer = _if_changed(make, views) if path in ("points", "trials") else partial(_read, make)
        routes.add_url_rule(f"{API}/{path}", f"read {path.replace('.', ' ')}", answer)
    measure = partial(_read, lambda: inspected.ask(asked_point()))
    routes.add_url_rule(f"{API}/inspected", "measure a point", measure, methods=["POST"])


def _add_files(routes: Blueprint, views: Views, inspected: Inspected) -> None:
    """Pictures and the page of a point: what was measured of it, and no other file."""

    def asked_point() -> Asked:
        return Asked(*views.training(_asked("study"), _number(_asked("id"))))

    def image() -> Any:
        row, number = _asked("row"), _number(_asked("number"))
        return inspected.image(asked_point(), row, number)

    routes.add_url_rule(f"{API}/image", "image", partial(_file, image, "image/png"))
    page = partial(_file, lambda: inspected.page(asked_point()), "text/html; charset=utf-8")
    routes.add_url_rule(f"{API}/inspected.html", "inspected page", page)


def _file(make: Callable[[], bytes], kind: str) -> Any:
    """What it makes as it is; a page of it runs in a sandbox of its own, where it can ask for nothing."""
    from flask import Response

    try:
        answer = Response(make(), content_type=kind)
    except (ValueError, StorageError) as error:
        return _read(partial(_raise, error))
    answer.headers["Content-Security-Policy"] = SANDBOX
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-cache"
    return answer


def _raise(error: Exception) -> None:
    raise error


def _all(name: str) -> list[str]:
    """All that stand in the query under this name."""
    from flask import request

    return [value for value in request.args.getlist(name) if value]


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
        raise ValueError(f"{text[:40]!r} is not the number of a point, a training or an image")
    return int(text)
