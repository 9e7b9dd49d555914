"""Which token this process shows to a Ray cluster, for as long as it is connected."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
BYTES = 32


@contextmanager
def own_token() -> Iterator[None]:
    """A token for a cluster that this process starts: nobody else on the machine may use it, and no file keeps it.

    Ray would write one into the home folder, and whatever `ray start` starts later would ask for it.
    """
    given = TOKEN in os.environ or TOKEN_PATH in os.environ
    if given or os.environ.get(MODE) == "disabled":
        yield
        return
    with _set(**{MODE: "token", TOKEN: secrets.token_hex(BYTES)}):
        yield


@contextmanager
def kept_token() -> Iterator[None]:
    """The token of the home folder, if there is one: `ray start` on this machine asks for it then."""
    if MODE in os.environ or not _has_token():
        yield
        return
    with _set(**{MODE: "token"}):
        yield


@contextmanager
def _set(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_again()


def _has_token() -> bool:
    with suppress(ImportError):  # Ray before 2.52 knows no tokens
        from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    return False


def _read_again() -> None:
    """Ray keeps what it has read of the environment."""
    with suppress(ImportError):
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
