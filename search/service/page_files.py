"""Addresses of the pages, their scripts and their styles: files of this package, as they are."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Blueprint, Response

PAGES = "/dynafront"
# of the npm package plotly.js-basic-dist-min, a quarter of the whole plotly.js: it has lines and points
PLOTLY = "plotly-basic-4.1.1.min.js"
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
    "sketch.js",
    "point.js",
    "lines.js",
    "growth.js",
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
    for path, name in (ADDRESSES | {name: name for name in (*FILES, PLOTLY)}).items():
        routes.add_url_rule(
            f"{PAGES}/{path}", f"page {name.replace('.', ' ')}", partial(_page, name)
        )


def _page(name: str) -> Response:
    from flask import Response

    content = files("search.service").joinpath("pages", name).read_bytes()
    answer = Response(content, content_type=f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
    answer.headers["Content-Security-Policy"] = POLICY
    # its name has its version
    kept = f"public, max-age={YEAR}, immutable" if name == PLOTLY else "no-cache"
    answer.headers["Cache-Control"] = kept
    return answer
