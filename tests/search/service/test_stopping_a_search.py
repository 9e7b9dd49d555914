"""Stop, from the pages' server or another machine, of a search that a script started: it ignores Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crashes import STUDY, new_folder
from benchmarks.launcher import LOG, Launcher, Search
from search.service.actions import Actions
from search.service.jobs import JobQueue
from storage.settings import Settings
from storage.store import Store

pytestmark = pytest.mark.slow

TEXT = STUDY.replace("trials: 3, epochs: 6", "trials: 3, epochs: 500")
# as a shell starts what stands before `&` in a script, and with a lease that is renewed each second
IN_A_SCRIPT = """
import signal, search.run.lease
signal.signal(signal.SIGINT, signal.SIG_IGN)
search.run.lease.LEASE_SECONDS = 4.0
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["this machine", "another machine"])
def test_stop_reaches_a_search_that_ignores_ctrl_c(
    launcher: Launcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: str,
    elsewhere: bool,
) -> None:
    folder = new_folder(tmp_path, "study", TEXT)
    settings = Settings.model_validate({"storage": {"folder": folder / "dynafront-data"}})
    store = Store.open(settings.database_url)
    search = launcher.search(folder, "--workers", workers, before=IN_A_SCRIPT)
    wait_for_an_epoch(search, store)
    os.kill(search.pid, signal.SIGINT)
    assert search.ended(1) is None, "it does ignore Ctrl-C"
    if elsewhere:
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    actions = Actions(store, settings, JobQueue(store, settings))
    assert actions.run("/stop", {"study": "killed"})["stopped"]
    assert search.ended(60) == 130
    assert "Stopped. Nothing is lost" in (folder / LOG).read_text()
    assert store.study("killed").owner is None


def wait_for_an_epoch(search: Search, store: Store) -> None:
    until = time.monotonic() + 120
    while store.find_study("killed") is None or not store.trials("killed"):
        assert search.ended(0.2) is None, (search.folder / LOG).read_text()
        assert time.monotonic() < until, (search.folder / LOG).read_text()
    while not any(store.epochs("killed", one.kind, one.number) for one in store.trials("killed")):
        assert search.ended(0.2) is None, (search.folder / LOG).read_text()
        assert time.monotonic() < until, (search.folder / LOG).read_text()
