"""URLs: what is one, what may be shown of those of databases, and which file these mean."""

from __future__ import annotations

import re
from pathlib import Path

_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")  # a password may itself hold @, : and /
_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&\s]*")
_USER = re.compile(r"://[^/\s]*@")
SQLITE = "sqlite:///"


def is_url(place: Path | str) -> bool:
    """Whether the place is a URL, and no folder of this machine."""
    return "://" in str(place)


def without_password(url: str) -> str:
    """The URL (or a message that quotes one) as it may be shown: ://USER:***@HOST."""
    return _IN_QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def without_user(url: str) -> str:
    """The URL as a browser opens it: whoever reads it gives a name and a password of their own."""
    return _USER.sub("://", url)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for every other database."""
    return Path(url.removeprefix(SQLITE).split("?", 1)[0]) if url.startswith(SQLITE) else None
