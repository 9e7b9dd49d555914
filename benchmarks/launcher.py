"""Searches that are started at once, for they fork from a process that has imported everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE, LOG = "study.yml", "log.txt"  # in the folder of a search
# forks a search for each line that it reads, and waits for one where it is asked to
LAUNCHER = """
import json, os, sys, threading, time
import alembic.command, matplotlib.pyplot, mlflow.store.tracking.sqlalchemy_store
import search.commands.front, search.commands.search, search.report.front_page, search.run.finalists
import search.run.preloaded, storage.mlflow_log
from search.cli import main

STARTED_BY, LAUNCHER = os.getppid(), os.getpid()

def end_with_launcher():
    while os.getppid() == LAUNCHER:
        time.sleep(0.5)
    os._exit(1)

def search(folder, arguments, before):
    os.setsid()
    threading.Thread(target=end_with_launcher, daemon=True).start()
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    exec(before, globals())
    try:
        main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

for line in sys.stdin:
    asked = json.loads(line)
    if "folder" in asked:
        pid = os.fork() or search(**asked)
        print(pid, flush=True)
    else:
        found, until = 0, time.monotonic() + asked["seconds"]
        while not found and time.monotonic() < until and os.getppid() == STARTED_BY:
            time.sleep(0.02)
            found, status = os.waitpid(asked["pid"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if found else "null", flush=True)
"""


class Launcher:
    """Starts searches that need no time to import anything. Use as a context manager.

    `within` is a command that runs the one behind it, in the same process.
    """

    def __init__(self, *within: str) -> None:
        self._within = within

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Launcher:
        self._codes: dict[int, int] = {}
        self._process = subprocess.Popen(
            [*self._within, sys.executable, "-c", LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def search(self, folder: Path, *flags: str, before: str = "") -> Search:
        """Start, or continue, the study in the folder; `before` is Python that its process runs first."""
        asked = {"folder": str(folder), "arguments": ["search", FILE, *flags], "before": before}
        return Search(self, self._ask(**asked), folder, flags, before)

    def ended(self, pid: int, seconds: float) -> int | None:
        """The exit code of a search, negative after a signal; None while it goes on after so many seconds."""
        if pid not in self._codes:
            if (code := self._ask(pid=pid, seconds=seconds)) is None:
                return None
            self._codes[pid] = code
        return self._codes[pid]

    def _ask(self, **what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@dataclass(frozen=True)
class Search:
    """A search that was started: its driver's process."""

    launcher: Launcher
    pid: int
    folder: Path
    flags: tuple[str, ...] = ()
    before: str = ""

    def ended(self, seconds: float) -> int | None:
        """Its exit code; None while it goes on after so many seconds."""
        return self.launcher.ended(self.pid, seconds)

    def again(self) -> Search:
        """The same command once more, started."""
        return self.launcher.search(self.folder, *self.flags, before=self.before)

    def kill(self) -> bool:
        """Kill its driver, and wait until it is gone; False where it had ended by itself."""
        if self.ended(0.0) is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.ended(60) == -signal.SIGKILL


def database_of(folder: Path) -> str:
    """The database of its studies."""
    file = folder / "mlflow.yml"
    storage = json.loads(file.read_text())["storage"] if file.exists() else {}
    return str(storage.get("database", f"sqlite:///{folder / 'dynafront-data' / 'dynafront.db'}"))
