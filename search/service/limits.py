"""A bound on what a request may send, kept before anything of it is read into memory or asked for its name.

And how everything that stands before the application refuses a request.
"""

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
            await refuse(send, 413, f"a request has at most {self.largest:,} bytes")
            return
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(whole, None) or await receive()

        await self.app(scope, again, send)


async def refuse(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer a request with one line, though its body may not have been read."""
    always = [
        (b"content-type", b"application/json"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    start = {"type": "http.response.start", "status": status, "headers": [*always, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": json.dumps({"error": text}).encode()})
