"""Putting a file that was written aside in its place, so that it is there after a power cut too."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def put_in_place(aside: Path, place: Path, before: Path | None = None) -> None:
    """Rename the file, what is in its place to `before`; returns once the disk has content and names.

    Raises OSError.
    """
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    if before is not None and place.exists():
        os.replace(place, before)
    os.replace(aside, place)
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that does not know this, such as one of a network
            os.fsync(handle)
    finally:
        os.close(handle)
