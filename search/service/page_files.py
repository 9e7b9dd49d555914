"""Addresses of the pages, their scripts and their styles: files of this package, as they are."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Blueprint, Response

PAGES = "/dynafront"
YEAR = 31_536_000  # seconds
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
# nothing but our own files; styles in elements are plotly's
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'self'"
ADDRESSES = {
    "": "studies.html",
    "study": "study.html",
    "why": "why.html",
    "compare": "compare.html",
    "new": "new.html",
    "export": "export.html",
}
FILES = (
    "common.js",
    "studies.js",
    "study.js",
    "chart.js",
    "cloud.js",
    "point.js",
    "lines.js",
    "trials.js",
    "why.js",
    "parallel.js",
    "compare.js",
    "actions.js",
    "new.js",
    "export.js",
    "actions.css",
    "style.css",
)


def add_pages(routes: Blueprint) -> None:
    """Our pages and plotly, which they draw with."""
    for path, name in (ADDRESSES | {name: name for name in FILES}).items():
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
