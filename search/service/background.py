"""Work that takes seconds, for pages: each in a process of its own, one at a time, and never in the server's."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from search.service.environment import reader_environment
from storage.settings import Settings

SECONDS = 900.0  # that a piece of work may take
MOST = 8  # that run or wait


class Background:
    """Pieces of work, known by the file or folder that comes out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue = ThreadPoolExecutor(1, "background")
        self._asked: dict[Path, Future[str]] = {}

    def start(self, result: Path, *arguments: str) -> None:
        """Run `python -m search.service.working` with these arguments and the result; not twice at a time.

        Raises ValueError where too much waits already.
        """
        if self.running(result):
            return
        if sum(not one.done() for one in self._asked.values()) >= MOST:
            raise ValueError(f"{MOST} pieces of work wait already; ask again when they are done")
        self._asked[result] = self._queue.submit(self._run, [*arguments, str(result)])

    def running(self, result: Path) -> bool:
        """Whether it runs, or waits until another one is done."""
        asked = self._asked.get(result)
        return asked is not None and not asked.done()

    def error(self, result: Path) -> str:
        """Why the last try failed; empty where there was none, or it did not."""
        asked = self._asked.get(result)
        return "" if asked is None or not asked.done() else asked.result()

    def _run(self, arguments: list[str]) -> str:
        command = [sys.executable, "-m", "search.service.working", *arguments]
        environment = reader_environment(self._settings)
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"it took longer than {SECONDS / 60:.0f} minutes"
        except OSError as error:
            return f"no process could be started: {error}"
        if done.returncode == 0:
            return ""
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else f"the process ended with code {done.returncode}"
