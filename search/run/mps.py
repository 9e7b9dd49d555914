"""NVIDIA's Multi-Process Service: trainings that share a GPU compute side by side there, and not in turns.

Without it the GPU gives each process slices of time, and small kernels leave most of it idle. The processes of a search
are its clients by a variable of their environment. A search starts a daemon of its own, in a private folder, unless
one answers already, which is not touched.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(f"dynafront.{__name__}")

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
VISIBLE = "CUDA_VISIBLE_DEVICES"
MIG = "MIG-"  # begins the name of a part of a GPU
MOST_CLIENTS = 48  # processes on a GPU, from Volta on
OURS = 4  # that are no workers: they measure
NOWHERE = "/nonexistent"  # in place of the folder of a daemon: nothing answers there
PATIENCE = 20.0  # seconds for the daemon to start, to answer, and to end
# ends the daemon once nobody holds the other end of its input, however the search ended: also by kill -9
WATCH = f'cat > /dev/null; echo quit | {CONTROL} > /dev/null 2>&1; rm -rf "$1"'


class Mps:
    """A daemon for the processes of one search. `active` while new processes are clients of it, or of another one."""

    def __init__(self) -> None:
        self.active = False
        self._watcher: subprocess.Popen[bytes] | None = None
        self._before: dict[str, str | None] = {}

    def start(self, workers: int, say: Callable[[str], None]) -> None:
        """Let processes that start from now on be clients, if this machine has the service."""
        if shutil.which(CONTROL) is None or self.active:
            return
        if workers + OURS > MOST_CLIENTS:
            logger.info("no MPS: it serves up to %d processes", MOST_CLIENTS)
            return
        if _asked("get_server_list", dict(os.environ)):
            logger.info("an MPS daemon answers already, which is used")
            self.active = True
            return
        if any(name.strip().startswith(MIG) for name in os.environ.get(VISIBLE, "").split(",")):
            logger.info("no MPS: a daemon would see the first instance of a GPU alone")
            return
        folder = tempfile.mkdtemp(prefix="dynafront-mps-")  # short: sockets lie there
        own = {PIPES: str(Path(folder, "pipe")), LOGS: str(Path(folder, "log"))}
        for path in own.values():
            Path(path).mkdir()
        # of a daemon that sees some GPUs only, clients would have to know these by other numbers
        environment = {k: v for k, v in os.environ.items() if k != VISIBLE} | own
        # before the daemon, or nobody would end one whose search is killed now; it leaves Ctrl-C to the search
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", folder],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        if (reason := _started(environment)) is not None:
            say(f"NVIDIA's MPS does not start, so trainings share GPUs without it: {reason}")
            self.close()
            return
        self._set(own)
        self.active = True
        logger.info("an MPS daemon was started, in %s", folder)

    def leave(self) -> None:
        """Processes that start from now on are no clients; the daemon stays for those that are."""
        if self.active:
            self._set({PIPES: NOWHERE})
        self.active = False

    def close(self) -> None:
        """End the daemon, once its clients have ended, if the search has started it."""
        self._restore()
        self.active = False
        if self._watcher is not None:
            assert self._watcher.stdin is not None
            self._watcher.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # it goes on waiting for clients by itself
                self._watcher.wait(PATIENCE)
            self._watcher = None

    def _set(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self._before.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def _restore(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}


def _started(environment: dict[str, str]) -> str | None:
    """Start the daemon; why it did not, if so."""
    try:
        done = subprocess.run(
            [CONTROL, "-d"], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[0] if said else f"exit code {done.returncode}"


def _asked(command: str, environment: dict[str, str]) -> bool:
    """Whether a daemon answers."""
    try:
        done = subprocess.run(
            [CONTROL],
            input=f"{command}\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.info("no answer of an MPS daemon: %s", error)
        return False
    return done.returncode == 0
