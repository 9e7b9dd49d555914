"""Putting files into a remote store while a training goes on: a thread that puts what was written last.

A file that is written again before it was put is put once, as it is then. While the store is away, files wait and are
tried again; once it is back, all that was not put is.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from storage.checkpoint_files import files_below
from storage.remote_store import AwayError

if TYPE_CHECKING:
    from storage.kept_files import KeptFiles

logger = logging.getLogger(f"dynafront.{__name__}")

RETRY_SECONDS = 30.0  # before a store that is away is tried again


class Uploads:
    """What is to be put into a store, in the order in which it was written."""

    def __init__(self, files: KeptFiles) -> None:
        self._files = files
        self._waiting: dict[Path, None] = {}
        self._changed = threading.Condition()
        self._tried = True  # since the last file came
        threading.Thread(target=self._run, name="uploads", daemon=True).start()

    def add(self, file: Path) -> None:
        """Put this file soon."""
        with self._changed:
            self._waiting.setdefault(file)
            self._tried = False
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all was put; not for a store that is away."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._waiting or self._tried or bool(self._files.away)
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                file = next(iter(self._waiting))
            if not self._put(file):
                self._pause()

    def _put(self, file: Path) -> bool:
        """Put the first of those that wait; False where that failed."""
        was_away = bool(self._files.away)
        try:
            self._files.put(file)
        # whatever goes wrong with a file must not end the thread that puts the others
        except Exception as error:
            if not isinstance(error, AwayError):
                logger.warning("%s was not put into the store", file, exc_info=error)
            return False
        left = files_below(file.parent) if was_away else [file]  # it may have been written again
        with self._changed:
            del self._waiting[file]
            self._waiting.update((one, None) for one in left if self._files.is_pending(one))
            self._changed.notify_all()
        return True

    def _pause(self) -> None:
        """Wait a while, or until another file comes."""
        with self._changed:
            self._tried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._tried, RETRY_SECONDS)
