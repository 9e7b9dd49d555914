"""A PostgreSQL server that restarts in the middle of a study; a server of its own, where PostgreSQL is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import storage.measurements
from search.run.optuna_mirror import OptunaMirror, optuna_storage
from storage.records import EpochRecord
from storage.store import Store

pytestmark = pytest.mark.slow
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


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg")
    program("initdb")
    with tempfile.TemporaryDirectory(prefix="dynafront-") as folder:
        found = Server(Path(folder))
        yield found
        found.stop()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(server: Server, said: list[str]) -> Iterator[Store]:
    found = Store.open(server.url)
    found.say_on(said.append)
    found.add_study("s", {}, "", {})
    found.add_trial("s", "search", 0, "f", {}, 0, 3)
    yield found
    found.delete_study("s")
    found.close()


EPOCH = EpochRecord(epoch=1, metrics={"val/accuracy": 0.5}, gate_rates={})


def test_a_server_that_was_restarted_is_asked_anew(server: Server, store: Store) -> None:
    server.restart()
    assert store.study("s").seconds_spent == 0
    server.restart()
    store.add_epoch("s", "search", 0, EPOCH)
    assert store.epochs("s", "search", 0) == [EPOCH]


def test_a_server_that_is_away_for_a_while_is_waited_for_and_one_line_says_so(
    server: Server, store: Store, said: list[str]
) -> None:
    server.stop()
    back = threading.Timer(1.0, server.start)
    back.start()
    store.add_seconds("s", 2.0)
    store.add_seconds("s", 3.0)
    back.join()
    assert store.study("s").seconds_spent == 5.0
    (line,) = said
    assert line.endswith("does not answer; waiting for it, 5 minutes at most")


def test_a_server_that_goes_away_in_the_middle_of_a_transaction_is_asked_the_whole_once_more(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_id, asked = storage.measurements.trial_id, list[int]()

    def restarting(*arguments: Any) -> int:
        found = trial_id(*arguments)
        if not asked:
            server.restart()
        asked.append(found)
        return found

    monkeypatch.setattr(storage.measurements, "trial_id", restarting)
    store.add_epoch("s", "search", 0, EPOCH)
    assert len(asked) == 2
    assert store.epochs("s", "search", 0) == [EPOCH]


def test_optunas_tables_outlive_a_restart_too(server: Server, store: Store) -> None:
    tables = optuna_storage(server.url)
    mirror = OptunaMirror(tables, "s", {"f": ()}, metrics=("accuracy", "macs"))
    mirror.add("f", {})
    server.stop()
    mirror.add("f", {})
    time.sleep(0.2)
    server.start()
    mirror.tell(0, (0.5, 1e6))
    server.restart()
    mirror.tell(1, (0.6, 2e6))
    mirror.close()
    trials = mirror.study.get_trials()
    tables.remove_session()
    tables.engine.dispose()
    assert [trial.values for trial in trials] == [[0.5, 1e6], [0.6, 2e6]]
