"""Putting a file that was written aside in its place, so that it is there after a power cut too."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def put_in_place(
    aside: Path,
    place: Path,
    before: Path | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Rename the file, what is in its place to `before`; returns once the disk has content and names.

    `wanted` is asked at the last moment, for to write takes long: where it says no the file goes, and False is
    returned. Raises OSError.
    """
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    if not wanted():
        aside.unlink()
        return False
    if before is not None and place.exists():
        os.replace(place, before)
    os.replace(aside, place)
    _sync_folder(place.parent)
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that does not know this, such as one of a network
            os.fsync(handle)
    finally:
        os.close(handle)
