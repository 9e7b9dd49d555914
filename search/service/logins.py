"""A limit on guessing passwords: who gives wrong ones waits, for longer each time."""

from __future__ import annotations

import secrets
from base64 import b64decode
from binascii import Error
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from time import monotonic
from typing import Any

from search.service.limits import Message, Receive, Send, refuse

FREE = 5  # wrong passwords in a row, before there is a wait
LONGEST = 900.0  # seconds of a wait
FORGOTTEN = 3600.0  # seconds after the last wrong one
MOST = 10_000  # names and addresses that are remembered
DENIED = 401

Who = tuple[str, str]  # the name of an account, and the address that asks


@dataclass
class _Tries:
    """What one name showed from one address: wrong passwords in a row, those that are being checked, and right ones."""

    wrong: int = 0
    under_way: int = 0
    last: float = 0.0
    right: set[bytes] = field(default_factory=set)


class Logins:
    """Counts wrong passwords by name and address, in this process alone; a restart forgets them.

    A password that was right here is asked no further: somebody who guesses from the same address locks nobody out.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._salt = clock, secrets.token_bytes(16)
        self._tries: OrderedDict[Who, _Tries] = OrderedDict()

    def wait(self, who: Who, password: bytes) -> int:
        """Seconds until this password may be tried; 0: now, and then `ended` has to be called."""
        tries = self._tries.setdefault(who, _Tries())
        self._tries.move_to_end(who)
        if self._mark(password) in tries.right:
            tries.under_way += 1
            return 0
        now = self._clock()
        if now - tries.last > FORGOTTEN:
            tries.wrong = 0
        beyond = tries.wrong + tries.under_way - FREE
        least = min(LONGEST, 2.0**beyond) if beyond >= 0 else 0.0
        left = least - (now - tries.last) if tries.wrong >= FREE else least
        if left > 0:
            return ceil(left)
        tries.under_way += 1
        if len(self._tries) > MOST:
            self._tries.popitem(last=False)
        return 0

    def ended(self, who: Who, password: bytes, *, right: bool | None) -> None:
        """What became of it; None: it was not checked."""
        tries = self._tries.get(who, _Tries())
        tries.under_way = max(0, tries.under_way - 1)
        if right:
            tries.wrong, tries.right = 0, {self._mark(password)}
        elif right is not None:
            tries.wrong, tries.last = tries.wrong + 1, self._clock()
            tries.right.discard(self._mark(password))

    def _mark(self, password: bytes) -> bytes:
        return blake2b(password, key=self._salt, digest_size=16).digest()


class LimitedLogins:
    """ASGI: answers 429 to a password for which its name and address have to wait.

    `is_open(path)` says which paths are answered without a password being checked.
    """

    def __init__(self, app: Any, is_open: Callable[[str], bool], logins: Logins) -> None:
        self.app, self._is_open, self._logins = app, is_open, logins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        given = _given(scope) if scope["type"] == "http" else None
        if given is None:
            await self.app(scope, receive, send)
            return
        who, password = given
        seconds = self._logins.wait(who, password)
        if seconds:
            text = f"too many wrong passwords: try again in {seconds} s"
            await refuse(send, 429, text, (b"retry-after", str(seconds).encode()))
            return
        checked: list[bool] = []

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._is_open(scope["path"]):
                checked.append(message["status"] != DENIED)
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            self._logins.ended(who, password, right=checked[0] if checked else None)


def _given(scope: Message) -> tuple[Who, bytes] | None:
    """Name, address and password of a request that has them."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    kind, _, coded = (sent[0] if sent else b"").partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        name, _, password = b64decode(coded).partition(b":")
    except (Error, ValueError):
        return None
    address = (scope.get("client") or ("", 0))[0]
    return (name.decode("utf-8", "replace"), address), password
