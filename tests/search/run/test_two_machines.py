"""A study whose machine is gone goes on on another one: PostgreSQL, an S3, folders and names of their own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crashes import LOG, STUDY, Launcher, Search, known, new_folder
from storage.records import Kind
from storage.store import Store
from tests.postgres import Server, running_postgres
from tests.s3 import S3, running_s3

pytestmark = pytest.mark.slow
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 4, warm_epochs: 2"
).replace("cascades: false\n", "")
LEASE_SECONDS = 6.0  # in place of a minute
# another name, another home, and no way to look at processes of other machines
MACHINE = """
import os, socket, search.run.lease
socket.gethostname = lambda: {name!r}
os.environ["HOME"] = {home!r}
search.run.lease.LEASE_SECONDS = {seconds}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgres() as found:
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as found:
        yield found


@pytest.fixture(scope="module")
def launcher(s3: S3) -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


def machine(folder: Path) -> str:
    """What a process does first that is to be one of the machine of this folder."""
    return MACHINE.format(name=folder.name, home=str(folder / "home"), seconds=LEASE_SECONDS)


def trained(store: Store, kind: Kind, number: int) -> int:
    """How many epochs of a training the tables know."""
    if store.find_study("killed") is None or store.find_trial("killed", kind, number) is None:
        return 0
    return len(store.epochs("killed", kind, number))


def search_until_driving(launcher: Launcher, folder: Path) -> tuple[Search, float]:
    """Start it again and again until it drives the study; the search, and after how many seconds that was."""
    began = time.monotonic()
    while time.monotonic() < began + 120:
        search = launcher.search(folder, "--workers", "0", before=machine(folder))
        if search.ended(4.0) != 2:
            return search, time.monotonic() - began
    raise AssertionError((folder / LOG).read_text())


def test_another_machine_goes_on_where_the_first_one_died(
    launcher: Launcher, server: Server, s3: S3, tmp_path: Path
) -> None:
    whole = new_folder(tmp_path, "whole", SMALL)
    assert launcher.search(whole, "--workers", "0").ended(600) == 0, (whole / LOG).read_text()
    places = {"database": server.new_database("two_machines"), "checkpoints": s3.url}
    one = new_folder(tmp_path, "one", SMALL, **places)
    other = new_folder(tmp_path, "other", SMALL, **places)
    store = Store.open(places["database"])
    search = launcher.search(one, "--workers", "1", before=machine(one))
    until = time.monotonic() + 300
    while trained(store, Kind.SEARCH, 0) < 1 and time.monotonic() < until:
        assert search.ended(0.05) is None, (one / LOG).read_text()
    search.kill()
    epochs = trained(store, Kind.SEARCH, 0)
    assert epochs >= 1
    shutil.move(one, tmp_path / "gone")
    search, _ = search_until_driving(launcher, other)
    assert search.ended(600) == 0, (other / LOG).read_text()
    said = (other / LOG).read_text()
    assert "trained again" not in said
    assert "it starts again" not in said
    expected, found = known(whole), known(other)
    assert found["points"] == expected["points"]
    assert found["epochs"] == expected["epochs"]
    store.close()
