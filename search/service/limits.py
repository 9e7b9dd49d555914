"""A bound on what a request may send, kept before anything of it is read into memory or asked for its name."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class LimitedBodies:
    """ASGI: answers 413 where the body of a request below `prefix` has more bytes than `largest`.

    MLflow reads a body to its end before Flask sees the request, and so before anybody asks who sends it.
    """

    def __init__(self, app: Any, prefix: str, largest: int) -> None:
        self.app, self.prefix, self.largest = app, prefix, largest

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self.prefix):
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self.largest:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self.largest:
            await self._refuse(send)
            return
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(whole, None) or await receive()

        await self.app(scope, again, send)

    async def _refuse(self, send: Send) -> None:
        text = json.dumps({"error": f"a request has at most {self.largest:,} bytes"}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": text})
