"""Whether who holds a lease is gone: numbers of processes count where they were given alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search.run import lease as leases
from search.run import owner as module
from search.run.lease import lease
from search.run.owner import Owner, where
from search.service.actions import Actions
from search.service.jobs import JobQueue
from storage.settings import Settings
from storage.store import Store

FIRST = os.getppid()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study("s", {}, "", {})
    return found


@pytest.fixture
def gone() -> Owner:
    """A process here that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return replace(Owner.here(), pid=str(ended.pid))


def test_what_is_written_is_read(gone: Owner) -> None:
    assert Owner.read(str(gone)) == gone == Owner.read(f"{gone}:stop")
    assert Owner.read("here:7:abc") == Owner("here", "7", "abc")
    assert Owner.read("") == Owner("?", "?", "")


def test_a_process_here_that_has_ended_is_dead_and_one_that_lives_is_not(gone: Owner) -> None:
    assert gone.is_dead
    assert Owner.read(f"{gone.host}:{gone.pid}:abc").is_dead, "as earlier versions wrote it"
    assert not replace(gone, pid=str(FIRST)).is_dead
    assert not replace(gone, host="elsewhere").is_dead


def test_a_number_from_another_container_or_machine_of_the_same_name_says_nothing(
    gone: Owner,
) -> None:
    other = replace(gone, where="0a1b2c3d-4026532000")
    assert other.shares_name
    assert not other.is_here
    assert not other.is_dead


def test_one_of_this_process_number_that_it_is_not_is_dead(store: Store) -> None:
    """A container that was killed and started again gives its process the number that the last one had."""
    before = Owner.here()
    assert before.is_dead
    store.take_lease("s", str(before), 60)
    with lease(store, "s"):
        assert not Owner.read(store.study("s").owner or "").is_dead
        with pytest.raises(ValueError, match="being searched"), lease(store, "s"):
            pass


@pytest.mark.skipif(not where(), reason="this system does not say it")
def test_a_process_in_another_namespace_is_told_apart() -> None:
    """As in another container: `unshare` needs rights that not every machine gives."""
    code = "from search.run.owner import Owner; print(Owner.here())"
    done = subprocess.run(
        [
            "unshare",
            "--pid",
            "--fork",
            "--user",
            "--map-root-user",
            "--mount-proc",
            sys.executable,
            "-c",
            code,
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    if done.returncode:
        pytest.skip(done.stderr)
    there = Owner.read(done.stdout.strip())
    assert there.host == socket.gethostname()
    assert there.pid == "1"
    assert not there.is_here


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is in another container of the same name; a lease lasts 0.8 seconds."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.8)


@pytest.mark.usefixtures("another")
def test_a_container_that_is_started_again_goes_on_once_the_lease_is_over(store: Store) -> None:
    said: list[str] = []
    store.take_lease("s", str(replace(Owner.here(), where="another", pid="1")), 0.8)
    with lease(store, "s", said.append) as held:
        assert not held.lost
    assert "sign of life" in said[0]


@pytest.mark.usefixtures("another")
def test_one_that_lives_in_another_container_of_the_same_name_keeps_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease(store, "s") as held:
        with monkeypatch.context() as there:
            there.setattr(module, "where", lambda: "another")
            there.setattr(module.os, "getpid", lambda: 2**22 + 1)
            with pytest.raises(ValueError, match="being searched"), lease(store, "s"):
                pass
        assert not held.lost


def test_stop_reaches_a_search_that_this_user_may_not_signal(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate({"storage": {"folder": tmp_path}})
    store.take_lease("s", str(replace(Owner.here(), pid=str(FIRST))), 60)

    def refused(pid: int, signal: int) -> None:
        if signal:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refused)
    answer = Actions(store, settings, JobQueue(store, settings)).run("/stop", {"study": "s"})
    assert "within 15 seconds" in answer["command"]
    assert (store.study("s").owner or "").endswith(":stop")
