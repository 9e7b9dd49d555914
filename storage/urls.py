"""Database URLs: what may be shown of them, and which file they mean."""

from __future__ import annotations

import re
from pathlib import Path

_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")  # a password may itself hold @, : and /
_USER = re.compile(r"://[^/\s]*@")
SQLITE = "sqlite:///"


def without_password(url: str) -> str:
    """The URL (or a message that quotes one) as it may be shown: ://USER:***@HOST."""
    return _PASSWORD.sub(r"\1:***@", url)


def without_user(url: str) -> str:
    """The URL as a browser opens it: whoever reads it gives a name and a password of their own."""
    return _USER.sub("://", url)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for every other database."""
    return Path(url.removeprefix(SQLITE).split("?", 1)[0]) if url.startswith(SQLITE) else None
