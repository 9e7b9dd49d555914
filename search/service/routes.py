"""Addresses of the pages and of the REST interface. Every one only reads.

Paths are fixed and names stand in the query: an MLflow server with users lists exactly these paths as allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from search.service.openapi import document
from search.service.views import Views
from storage.errors import StorageError
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from flask import Blueprint

API = "/api/3.0/dynafront"
PAGES = "/dynafront"
YEAR = 31_536_000  # seconds
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
# nothing but our own files; styles in elements are plotly's
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'self'"


def blueprint(store: Store, settings: Settings) -> Blueprint:
    """All routes, reading from a store."""
    from flask import Blueprint, Response, jsonify, request

    routes = Blueprint("dynafront", __name__)
    views = Views(store, settings.folder)

    def page(name: str) -> Response:
        content = files("search.service").joinpath("pages", name).read_bytes()
        answer = Response(content, content_type=f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    def wanted(name: str) -> str:
        if not (value := request.args.get(name, "")):
            raise ValueError(f"?{name}= is missing")
        return value

    def read(make: Callable[[], Any]) -> Callable[[], Any]:
        """JSON of what it makes; mistakes of whoever asks are one line, with status 404 or 400."""

        @wraps(make)
        def answered() -> Any:
            try:
                return jsonify(make())
            except ValueError as error:
                missing = str(error).startswith("there is no")
                return jsonify({"error": str(error)}), 404 if missing else 400
            except StorageError as error:
                return jsonify({"error": str(error)}), 503

        return answered

    def unchanged(make: Callable[[], Any]) -> Callable[[], Any]:
        """As `read`; a browser that has the study's newest state gets 304 and no content."""

        @wraps(make)
        def answered() -> Any:
            try:
                tag = f'"{views.stamp(wanted("study"))}"'
            except (ValueError, StorageError):
                return read(make)()
            if request.headers.get("If-None-Match") == tag:
                return Response(status=304, headers={"ETag": tag})
            answer = read(make)()
            if isinstance(answer, Response):
                answer.headers["ETag"] = tag
                answer.headers["Cache-Control"] = "no-cache"
            return answer

        return answered

    @routes.get(f"{PAGES}/")
    def studies_page() -> Any:
        return page("studies.html")

    @routes.get(f"{PAGES}/study")
    def study_page() -> Any:
        return page("study.html")

    for name in ("common.js", "studies.js", "study.js", "style.css"):
        routes.add_url_rule(
            f"{PAGES}/{name}", f"file_{name}".replace(".", "_"), lambda name=name: page(name)
        )

    @routes.get(f"{PAGES}/plotly.js")
    def plotly() -> Any:
        content = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
        answer = Response(content, content_type="text/javascript; charset=utf-8")
        answer.headers["Cache-Control"] = f"public, max-age={YEAR}"
        return answer

    @routes.get(f"{API}/studies")
    @read
    def studies() -> Any:
        return {"studies": views.studies()}

    @routes.get(f"{API}/study")
    @read
    def study() -> Any:
        return views.study(wanted("study"))

    @routes.get(f"{API}/points")
    @unchanged
    def points() -> Any:
        return views.points(wanted("study"))

    @routes.get(f"{API}/point")
    @read
    def point() -> Any:
        return views.point(wanted("study"), _number(wanted("id")))

    @routes.get(f"{API}/answer")
    @read
    def answer() -> Any:
        return views.answer(wanted("study"), wanted("max"), request.args.get("axis"))

    @routes.get(f"{API}/trials")
    @unchanged
    def trials() -> Any:
        return {"trials": views.trials(wanted("study"))}

    @routes.get(f"{API}/openapi.json")
    @read
    def openapi() -> Any:
        return document()

    return routes


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ValueError("?id= is not the number of a point")
    return int(text)
