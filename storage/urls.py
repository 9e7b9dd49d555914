"""Database URLs: what may be shown of them, and which file they mean."""

from __future__ import annotations

import re
from pathlib import Path

_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")
SQLITE = "sqlite:///"


def without_password(url: str) -> str:
    """The URL (or a message that quotes one) as it may be shown: ://USER:***@HOST."""
    return _PASSWORD.sub(r"\1:***@", url)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for every other database."""
    return Path(url.removeprefix(SQLITE).split("?", 1)[0]) if url.startswith(SQLITE) else None
