"""Guessing passwords: a few are free, then each wrong one makes the wait longer."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import uvicorn

from search.service.logins import FORGOTTEN, FREE, LONGEST, MOST, LimitedLogins, Logins

ANN = ("ann", "10.0.0.7")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guess(logins: Logins, who: tuple[str, str] = ANN, password: bytes = b"guess") -> int:
    """The seconds to wait; where there are none, the password was tried and is wrong."""
    seconds = logins.wait(who, password)
    if not seconds:
        logins.ended(who, password, right=False)
    return seconds


def test_each_wrong_password_after_the_first_few_doubles_the_wait() -> None:
    clock = Clock()
    logins = Logins(clock)
    assert [guess(logins) for _ in range(FREE)] == [0] * FREE
    waits = []
    for _ in range(12):
        waits.append(guess(logins))
        clock.now += waits[-1]
        assert guess(logins) == 0
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST
    clock.now += FORGOTTEN + 1
    assert [guess(logins) for _ in range(FREE)] == [0] * FREE, "an hour later all is forgotten"


def test_other_names_and_addresses_do_not_wait() -> None:
    logins = Logins(Clock())
    for _ in range(FREE):
        guess(logins)
    assert guess(logins) > 0
    assert guess(logins, ("ben", ANN[1])) == 0
    assert guess(logins, (ANN[0], "10.0.0.8")) == 0


def test_who_is_signed_in_is_not_locked_out_by_one_who_guesses() -> None:
    logins = Logins(Clock())
    assert logins.wait(ANN, b"right") == 0
    logins.ended(ANN, b"right", right=True)
    for _ in range(FREE + 1):
        guess(logins)
    assert logins.wait(ANN, b"right") == 0
    assert logins.wait(ANN, b"guess") > 0
    logins.ended(ANN, b"right", right=False)  # it was changed
    assert logins.wait(ANN, b"right") > 0


def test_many_guesses_at_once_are_no_way_around() -> None:
    logins = Logins(Clock())
    waits = [logins.wait(ANN, b"%d" % number) for number in range(100)]
    assert waits.count(0) == FREE


def test_what_is_remembered_is_bounded() -> None:
    logins = Logins(Clock())
    for number in range(MOST + 50):
        guess(logins, (str(number), "10.0.0.7"))
    assert len(logins._tries) <= MOST + 1


def asked(
    app: Any, password: str, path: str = "/api/x", *, by: str = "10.0.0.7", behalf: str = ""
) -> list[dict[str, Any]]:
    """What is answered to a request of this address, on behalf of another where it comes through a proxy."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    login = b"Basic " + b64encode(f"ann:{password}".encode())
    scope = {
        "type": "http",
        "path": path,
        "scheme": "http",
        "headers": [
            (b"authorization", login),
            *([(b"x-forwarded-for", behalf.encode())] if behalf else []),
        ],
        "client": (by, 1),
    }
    asyncio.run(app(scope, None, send))
    return sent


async def denies(scope: Any, receive: Any, send: Any) -> None:
    status = 200 if scope["path"] == "/health" else 401
    await send({"type": "http.response.start", "status": status, "headers": []})


def limited_logins() -> LimitedLogins:
    return LimitedLogins(denies, lambda path: path == "/health", Logins(Clock()))


def test_behind_a_proxy_on_this_machine_addresses_are_those_that_it_names() -> None:
    config = uvicorn.Config(limited_logins(), log_level="warning")
    config.load()
    statuses = [
        asked(config.loaded_app, f"guess {number}", by="127.0.0.1", behalf=address)[0]["status"]
        for address in ("10.0.0.7", "10.0.0.8")
        for number in range(FREE + 1)
    ]
    assert statuses == [*[401] * FREE, 429] * 2
    forged = [
        asked(config.loaded_app, f"guess {number}", by="10.0.0.9", behalf=f"10.0.1.{number}")[0]
        for number in range(FREE + 1)
    ]
    assert forged[-1]["status"] == 429, "from elsewhere nobody names another address"


def test_a_path_that_asks_for_no_password_proves_none_right() -> None:
    limited = limited_logins()
    for number in range(FREE):
        assert asked(limited, f"guess {number}", "/health")[0]["status"] == 200
        assert asked(limited, f"guess {number}")[0]["status"] == 401
    start, body = asked(limited, "one more")
    assert start["status"] == 429
    assert (b"retry-after", b"1") in start["headers"]
    assert body["body"] == b'{"error": "too many wrong passwords: try again in 1 s"}'
