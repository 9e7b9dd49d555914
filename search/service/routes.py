"""Addresses of what the REST interface reads. What it does is in `action_routes`.

Paths are fixed and names stand in the query: an MLflow server with users lists exactly these paths as allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from search.service.access import API, guard, signed_in
from search.service.action_routes import add_actions, add_download, job_reads
from search.service.background import Background
from search.service.client_reads import client_reads
from search.service.compared import check_names, compared
from search.service.growth import growth
from search.service.inspected import Asked, Inspected
from search.service.kept_answers import kept
from search.service.openapi import UNCHANGED, document
from search.service.page_files import add_pages
from search.service.point_files import add_files
from search.service.trial_views import trial, trials
from search.service.views import Views
from search.service.why_views import Why
from storage.errors import StorageError
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from flask import Blueprint, Response

KEPT = 16  # answers, of up to a megabyte


def blueprint(store: Store, settings: Settings) -> Blueprint:
    """All routes, reading from a store."""
    from flask import Blueprint

    routes = Blueprint("dynafront", __name__)
    guard(routes)
    add_pages(routes)
    views = Views(store, settings.folder)
    background = Background(settings)
    inspected = Inspected(settings.folder, background)
    jobs = job_reads(store, settings, _asked, _number)
    _add_reads(routes, views, inspected, Why(store, settings.folder, background), jobs)
    add_files(routes, lambda: _asked_point(views), inspected, _asked, _number)
    add_download(routes, API, store, settings, _asked, _number)
    add_actions(routes, API, store, settings)
    return routes


def _add_reads(
    routes: Blueprint,
    views: Views,
    inspected: Inspected,
    why: Why,
    jobs: Mapping[str, Callable[[], Any]],
) -> None:
    """The REST interface; `PATHS` of the OpenAPI document names the same."""

    def of_study(make: Callable[..., Any], *more: Any) -> Any:
        return make(views.store, *views.known(_asked("study")), *more)

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
        "growth": lambda: growth(*views.known(_asked("study"))),
        "trial": lambda: of_study(trial, _asked("kind", Kind.SEARCH), _number(_asked("number"))),
        "why": lambda: why.shown(*views.known(_asked("study")), views.stamp(_asked("study"))),
        "compare": compared_studies,
        "inspected": lambda: inspected.shown(_asked_point(views)),
        "user": signed_in,
        "openapi.json": document,
        **client_reads(views.store, _asked),
        **jobs,
    }
    for path, make in reads.items():
        answer = _if_changed(make, views) if f"/{path}" in UNCHANGED else partial(_read, make)
        routes.add_url_rule(f"{API}/{path}", f"read {path.replace('.', ' ')}", answer)
    measure = partial(_read, lambda: inspected.ask(_asked_point(views)))
    routes.add_url_rule(f"{API}/inspected", "measure a point", measure, methods=["POST"])


def _asked_point(views: Views) -> Asked:
    return Asked(*views.training(_asked("study"), _number(_asked("id"))))


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
    except (ValueError, StorageError) as error:
        return _refused(error)


def _refused(error: Exception) -> tuple[Response, int]:
    from flask import jsonify

    if isinstance(error, StorageError):
        return jsonify({"error": str(error)}), 503
    missing = str(error).startswith("there is no")
    return jsonify({"error": str(error)}), 404 if missing else 400


def _if_changed(make: Callable[[], Any], views: Views) -> Callable[[], Any]:
    """As `_read`; a browser that has the study's newest state gets 304 and no content, others what was made of it."""
    from flask import Response, jsonify, request

    made = kept(KEPT, lambda path, tag: jsonify(make()).get_data())

    def answered() -> Any:
        try:
            tag = f'"{views.stamp(_asked("study"))}"'
            headers = {"ETag": tag, "Cache-Control": "no-cache"}
            if request.headers.get("If-None-Match") == tag:
                return Response(status=304, headers=headers)
            return Response(
                made(request.full_path, tag), mimetype="application/json", headers=headers
            )
        except (ValueError, StorageError) as error:
            return _refused(error)

    return answered


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ValueError(f"{text[:40]!r} is not the number of a point, a training or an image")
    return int(text)
