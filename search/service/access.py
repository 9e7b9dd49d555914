"""What our routes refuse whoever asks, and the accounts of a server that a team shares.

The accounts are MLflow's. All that uses names of its users' app which it does not promise to keep is here.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from search.service.account_check import READS, Who, only_reads
from search.service.limits import Message
from storage.server_users import NAME_VARIABLE, PASSWORD_VARIABLE

if TYPE_CHECKING:
    from flask import Blueprint, Flask, Response

API = "/api/3.0/dynafront"
LARGEST = 1_048_576  # bytes of a request: a study file has a thousandth
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# an answer of the interface is no page: were a browser to show it as one, nothing in it would run
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"


def guard(routes: Blueprint) -> None:
    """Refuse what another site's page could send, and what is too large; add headers to every answer."""
    routes.before_request(_refuse_other_sites)
    routes.after_request(_safer)


def keep_on_this_machine(routes: Blueprint) -> None:
    """For a server without users: answer nobody who asks from another machine."""
    routes.before_request(_refuse_strangers)


def with_users(app: Flask) -> Any:
    """The application with MLflow's accounts; `account_check` decides who of them may do what.

    Takes the app with our routes in it. The admin's password, where one is given, holds from now on, so that one who
    forgot it starts the server with another.
    """
    from mlflow.server import auth

    protected = auth.create_app(app)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("dynafront."):
            for method in rule.methods or ():
                reads = only_reads(method, rule.rule)
                allowed = _everyone if reads else _nobody
                auth.BEFORE_REQUEST_VALIDATORS[(rule.rule, method)] = allowed
    keep_password(auth)
    return protected


def sender(app: Flask, request: Message) -> Who:
    """Who sends an ASGI request. MLflow compares the password, and remembers that it was right for a minute."""
    from flask import Response
    from mlflow.server import auth

    sent = [(key.decode("latin1"), value.decode("latin1")) for key, value in request["headers"]]
    with app.test_request_context(headers=[one for one in sent if one[0] == "authorization"]):
        if isinstance(auth.authenticate_request(), Response):
            return Who.NOBODY
        return Who.ADMIN if auth.sender_is_admin() else Who.USER


def signed_in() -> dict[str, Any]:
    """Who asks: the name of the account, and whether it may change something. Without users everyone may."""
    from flask import g

    name = g.get("mlflow_authenticated_user")
    if name is None:
        return {"name": None, "admin": True}
    from mlflow.server.auth import sender_is_admin

    return {"name": name, "admin": bool(sender_is_admin())}


def _everyone() -> bool:
    return True


def _nobody() -> bool:
    """Admins are never asked this."""
    return False


def keep_password(auth: Any) -> None:
    """Make the given password the admin's, and forget it: what this process starts need not know it."""
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    name = os.environ.get(NAME_VARIABLE) or auth.auth_config.admin_username
    if password and not auth.store.authenticate_user(name, password):
        auth.store.update_user(name, password=password, is_admin=True)


def _refuse_strangers() -> tuple[Response, int] | None:
    from flask import request

    if _loopback(request.remote_addr or ""):
        return None
    return _error("this server has no users: start `dynafront serve` to ask it from elsewhere", 403)


def _loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _refuse_other_sites() -> tuple[Response, int] | None:
    from flask import request

    request.max_content_length = LARGEST
    if (request.content_length or 0) > LARGEST:
        return _error(f"a request has at most {LARGEST:,} bytes", 413)
    sent = request.headers.get
    if sent("Sec-Fetch-Site") == "cross-site" and sent("Sec-Fetch-Mode") != "navigate":
        return _error("a page of another site gets no answer; a link to this one does", 403)
    if request.method in READS:
        return None
    if request.mimetype != "application/json":
        return _error("what changes something takes JSON: Content-Type: application/json", 415)
    origin = urlsplit(sent("Origin", "")).netloc
    if origin and origin != request.host:
        return _error(f"a page of {origin} may change nothing here, at {request.host}", 403)
    return None


def _error(text: str, status: int) -> tuple[Response, int]:
    from flask import jsonify

    return jsonify({"error": text}), status


def _safer(answer: Response) -> Response:
    from flask import request

    if API in request.path:
        answer.headers.setdefault("Content-Security-Policy", NO_PAGE)
        answer.headers.setdefault("Cache-Control", "no-store")
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer
