"""A PostgreSQL server of the tests' own, where PostgreSQL is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = "nobody"  # the server refuses to be run by root


def program(name: str) -> str:
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    return found or pytest.skip(f"PostgreSQL's {name} is not installed")


class Server:
    """A server with an empty database, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.user = NOBODY if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://me@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", str(self.data), "-U", "me", "-A", "trust", "--no-sync")
        self.start()

    def start(self) -> None:
        flags = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.data / "log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", flags, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def new_database(self, name: str) -> str:
        """The URL of another empty database."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "me", name)
        return self.url.rpartition("/")[0] + f"/{name}"

    def restart(self) -> None:
        self.stop()
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.user,
            cwd=self.data.parent,
        )


@contextmanager
def running_postgres() -> Iterator[Server]:
    """The server; it ends with the block. Skips where PostgreSQL is not installed, or does not start."""
    pytest.importorskip("psycopg")
    program("initdb")
    with tempfile.TemporaryDirectory(prefix="dynafront-") as folder:
        try:
            found = Server(Path(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        try:
            yield found
        finally:
            found.stop()
