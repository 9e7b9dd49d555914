"""Two applications at one address: ours, which is there at once, and MLflow's, which is loaded meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from search.service.access import API, LARGEST
from search.service.limits import LimitedBodies, Message, Receive, Send

HOSTS_VARIABLE = (
    "MLFLOW_SERVER_ALLOWED_HOSTS"  # MLflow's own; the names are whole, without patterns
)
HEALTH = "/health"


class Gate:
    """ASGI. Asks every request for a known name of this server, and passes it on by its path.

    `load` makes MLflow's application, in a thread of its own; where it raises, `give_up` gets the error. A request that
    needs MLflow waits for it.
    """

    def __init__(
        self,
        own: Any,
        pages: str,
        load: Callable[[], Any],
        give_up: Callable[[BaseException], None],
    ) -> None:
        self._own = LimitedBodies(own, API, LARGEST)
        self._ours = (f"{pages}/", f"{API}/")
        self._hosts = frozenset(os.environ.get(HOSTS_VARIABLE, "").lower().split(","))
        self._mlflow: Future[Any] = Future()
        self._load, self._give_up = load, give_up

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"] == HEALTH:
            await _say(send, 200, "OK")
        elif not self._knows(scope):
            await _say(send, 403, "this server is not called that: see server.allowed_hosts")
        elif scope["type"] == "http" and scope["path"].startswith(self._ours):
            await self._own(scope, receive, send)
        else:
            mlflow = await asyncio.shield(asyncio.wrap_future(self._mlflow))
            await mlflow(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Begin to load MLflow once the server runs; a thread that a server which ends does not wait for."""
        await receive()
        threading.Thread(target=self._loading, name="load MLflow", daemon=True).start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _loading(self) -> None:
        try:
            self._mlflow.set_result(self._load())
        except BaseException as error:
            self._mlflow.set_exception(error)
            self._give_up(error)

    def _knows(self, scope: Message) -> bool:
        named = [value for name, value in scope["headers"] if name == b"host"]
        return len(named) == 1 and named[0].decode("latin1").lower() in self._hosts


async def _say(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
