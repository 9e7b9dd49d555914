"""A driver that is suspended for longer than its lease, while another process takes its study over and ends it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crashes import STUDY, differences, known, new_folder
from benchmarks.launcher import LOG, Launcher, Search, database_of
from storage.checkpoints import Checkpoints
from storage.fence import TAKEN_OVER
from storage.records import Kind
from storage.store import Store
from tests.postgres import Server, running_postgres

pytestmark = pytest.mark.slow
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 8, warm_epochs: 4"
).replace("train_limit: 256", "train_limit: 96")
# leases of two seconds in place of a minute; a front is drawn whenever it changes
LEASE_SECONDS = 2.0
SHORT = f"""
import search.run.lease, search.run.publish, storage.database
search.run.lease.LEASE_SECONDS = {LEASE_SECONDS}
search.run.publish.FRONT_SECONDS = 0.0
storage.database.IDLE_SECONDS = 2
"""
# nothing but a write can tell this one that its lease is gone
UNAWARE = SHORT + "search.run.lease.Lease._renew = lambda self: None\n"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def uninterrupted(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    parent = tmp_path_factory.mktemp("suspended")
    whole = new_folder(parent, "whole", SMALL)
    assert launcher.search(whole, "--workers", "0").ended(600) == 0, (whole / LOG).read_text()
    return parent, known(whole)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize("before", [SHORT, UNAWARE], ids=["its lease tells it", "a write tells it"])
def test_a_driver_that_sleeps_past_its_lease_writes_nothing_when_it_wakes_up(
    launcher: Launcher,
    uninterrupted: tuple[Path, dict[str, Any]],
    request: pytest.FixtureRequest,
    database: str,
    before: str,
) -> None:
    parent, expected = uninterrupted
    name = f"{database}_{len(before)}"
    places = {}
    if database == "postgres":
        places["database"] = request.getfixturevalue("postgres").new_database(name)
    folder = new_folder(parent, name, SMALL, **places)
    asleep = launcher.search(folder, "--workers", "0", before=before)
    store = Store.open(database_of(folder))
    _wait_for_epochs(asleep, store, 6)  # of a trial, after the four of its baseline
    _suspend(asleep, folder)
    time.sleep(LEASE_SECONDS + 1)
    lost = len((folder / LOG).read_text())
    try:
        search = launcher.search(folder, "--workers", "0", before=SHORT)
        assert search.ended(600) == 0, (folder / LOG).read_text()
    finally:
        os.kill(asleep.pid, signal.SIGCONT)
    assert asleep.ended(120) == 1, (folder / LOG).read_text()
    said = (folder / LOG).read_text()[lost:]
    assert said.count(TAKEN_OVER) == 1
    assert "Traceback" not in said
    assert differences(folder, expected) == []
    assert epochs_done(folder) == epochs_done(parent / "whole"), "it was in an earlier one"
    store.close()


def _wait_for_epochs(search: Search, store: Store, count: int) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert search.ended(0.05) is None, (search.folder / LOG).read_text()
        kinds = (Kind.BASELINE, Kind.SEARCH) if store.find_study("killed") else ()
        trials = [trial for kind in kinds for trial in store.trials("killed", kind=kind)]
        if sum(len(store.epochs("killed", t.kind, t.number)) for t in trials) >= count:
            return
    raise AssertionError((search.folder / LOG).read_text())


def _suspend(search: Search, folder: Path) -> None:
    """At a moment when it holds up nobody who writes to a file of SQLite."""
    files = list((folder / "dynafront-data").glob("*.db"))
    for _ in range(100):
        os.kill(search.pid, signal.SIGSTOP)
        if all(map(_is_free, files)):
            return
        os.kill(search.pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("its tables are locked all the time")


def _is_free(file: Path) -> bool:
    connection = sqlite3.connect(file, timeout=0.0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def epochs_done(folder: Path) -> dict[str, int]:
    """By checkpoint, after how many epochs it was written."""
    files = Checkpoints(folder / "dynafront-data" / "checkpoints")
    found = {key: files.load(key) for key in sorted(files.keys())}
    return {key: one[1]["epochs_done"] for key, one in found.items() if one is not None}
