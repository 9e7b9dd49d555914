"""Answers that everyone who watches asks for, made once a second for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from search.service.access import API

if TYPE_CHECKING:
    from flask import Blueprint, Response

SECONDS = 1.0  # pages ask every three
NAMES = ("studies", "study", "points", "trials", "growth", "jobs")
POLLED = frozenset(f"{API}/{name}" for name in NAMES)


@dataclass(frozen=True)
class _Kept:
    """An answer and when it was made; without a body it is known only that its tag still holds."""

    at: float
    tag: str | None
    body: bytes | None

    @property
    def is_fresh(self) -> bool:
        return monotonic() - self.at < SECONDS


def share(routes: Blueprint) -> None:
    """Give what was answered less than a second ago again, to whoever may ask. Whatever changes something ends that.

    These answers are the same for all accounts, which were asked for theirs before.
    """
    kept: dict[str, _Kept] = {}

    def known() -> Response | None:
        from flask import Response, g, request

        if request.method == "POST":
            kept.clear()
        found = kept.get(request.full_path)
        if request.method != "GET" or found is None or not found.is_fresh:
            return None
        headers = {"ETag": found.tag, "Cache-Control": "no-cache"} if found.tag else {}
        g.is_shared = True
        if found.tag and request.headers.get("If-None-Match") == found.tag:
            return Response(status=304, headers=headers)
        if found.body is not None:
            return Response(found.body, mimetype="application/json", headers=headers)
        g.is_shared = False
        return None

    def keep(answer: Response) -> Response:
        from flask import g, request

        is_polled = request.method == "GET" and request.path in POLLED
        if is_polled and answer.status_code in (200, 304) and not g.get("is_shared"):
            for path in [path for path, one in list(kept.items()) if not one.is_fresh]:
                kept.pop(path, None)
            body = answer.get_data() if answer.status_code == 200 else None
            kept[request.full_path] = _Kept(monotonic(), answer.headers.get("ETag"), body)
        return answer

    routes.before_request(known)
    routes.after_request(keep)
