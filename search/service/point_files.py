"""Addresses of a point's pictures and of the page of its network: what was measured of it, and no other file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from search.service.access import API
from search.service.inspected import Asked, Inspected
from storage.errors import StorageError

if TYPE_CHECKING:
    from flask import Blueprint

# of a page of an inspection: its own script and pictures, from nowhere else
SANDBOX = "sandbox allow-scripts; default-src 'none'; img-src data:"
SANDBOX += "; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def add_files(
    routes: Blueprint,
    point: Callable[[], Asked],
    inspected: Inspected,
    asked: Callable[..., str],
    number: Callable[[str], int],
) -> None:
    """`point` gives the one that is asked for, `asked` what stands in the query, `number` reads a number there."""

    def image() -> bytes:
        return inspected.image(point(), asked("row"), number(asked("number")))

    routes.add_url_rule(f"{API}/image", "image", partial(_file, image, "image/png"))
    page = partial(_file, lambda: inspected.page(point()), "text/html; charset=utf-8")
    routes.add_url_rule(f"{API}/inspected.html", "inspected page", page)


def _file(make: Callable[[], bytes], kind: str) -> Any:
    """What it makes as it is; a page of it runs in a sandbox of its own, where it can ask for nothing."""
    from flask import Response, jsonify

    try:
        answer = Response(make(), content_type=kind)
    except ValueError as error:
        return jsonify({"error": str(error)}), 404 if str(error).startswith("there is no") else 400
    except StorageError as error:
        return jsonify({"error": str(error)}), 503
    answer.headers["Content-Security-Policy"] = SANDBOX
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-cache"
    return answer
