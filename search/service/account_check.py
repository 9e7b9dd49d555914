"""Who may ask a server with users for what: nobody for anything, a user for what only reads, an admin for the rest.

It stands before all of MLflow's application and decides by the request alone. MLflow's own rules come after it: they
let every user make experiments, runs and models of his own, and some addresses answer anybody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from search.service.limits import Message, Receive, Send, refuse

READS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = ("/health", "/favicon.ico")  # answered to anybody, and the files of MLflow's own page:
OPEN_FILES = "/static-files/"
# what takes its question as a body, and changes nothing; GraphQL has no mutation but an echo
READING_POSTS = re.compile(
    r"/graphql"
    r"|/(ajax-)?api/[23]\.0/?mlflow/("
    r"experiments/search(-datasets)?|runs/search|logged-models/search|datasets/search|issues/search"
    r"|registered-models/get-latest-versions|artifacts/presigned-download-url"
    r"|traces/(search|metrics|batchGetInfos|calculate-filter-correlation)"
    r")"
    # a point is measured once, one at a time, for whoever looks at it
    r"|/api/3\.0/dynafront/inspected"
)
# MLflow lets nobody but an admin name another account than the own one
OWN_PASSWORD = re.compile(r"/(ajax-)?api/2\.0/mlflow/users/update-password")

NEEDS_ACCOUNT = "a name and a password are needed: those of an account of this server"
NEEDS_ADMIN = "this is for admins; ask one, or sign in as one"
ASK = (b"www-authenticate", b'Basic realm="mlflow"')  # a browser asks for both then


class Who(Enum):
    """Who sends a request, as the accounts know it."""

    NOBODY = "nobody"
    USER = "user"
    ADMIN = "admin"


class AccountCheck:
    """ASGI: answers 401 to whom `who(headers)` does not know, and 403 to a user who may only read."""

    def __init__(self, app: Any, who: Callable[[Message], Who]) -> None:
        self.app, self._who = app, who

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            # a password is compared for 50 ms, the first time
            who = await asyncio.to_thread(self._who, scope)
            if who is Who.NOBODY:
                await refuse(send, 401, NEEDS_ACCOUNT, ASK)
                return
            if who is Who.USER and not only_reads(scope["method"], scope["path"]):
                await refuse(send, 403, NEEDS_ADMIN)
                return
        await self.app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether anybody gets an answer there, without a password being looked at."""
    return path in OPEN or path.startswith(OPEN_FILES)


def only_reads(method: str, path: str) -> bool:
    """Whether a request changes nothing but, where it is that, the password of who sends it."""
    if method == "POST":
        return READING_POSTS.fullmatch(path) is not None
    return method in READS or (method == "PATCH" and OWN_PASSWORD.fullmatch(path) is not None)
