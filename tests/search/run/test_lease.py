"""The right to drive a study: whoever has it is interrupted where somebody elsewhere asks for that."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.run import lease as module
from search.run.lease import lease
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study("s", {}, "", {})
    return found


def test_a_search_stops_as_with_ctrl_c_where_somebody_elsewhere_asks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.4)
    # as in a program that a script started with `&`, which has no handler for a polite kill
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _stopped_from_elsewhere(store)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "as it was"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_program_that_has_a_handler_of_its_own_keeps_it(store: Store) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with lease(store, "s"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_study_is_driven_from_another_thread_too(store: Store) -> None:
    """Only the main thread may set handlers."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_owner_inside, store).result() is not None


def _owner_inside(store: Store) -> str | None:
    with lease(store, "s"):
        return store.study("s").owner


def _stopped_from_elsewhere(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), lease(store, "s") as held:  # noqa: PT012
        assert store.ask_to_stop("s")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(0.05)
    assert not held.lost, "the lease is its own until it has stopped"
    assert store.study("s").owner is None
    with lease(store, "s"):
        time.sleep(0.3)  # and nobody asks the next one


HERE, ELSEWHERE = socket.gethostname(), "elsewhere"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of 0.8 seconds, renewed every 0.2, watched for 0.4."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.8)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("until", [-3600.0, 3600.0], ids=["it seems over", "it never seems over"])
def test_one_that_lives_keeps_its_lease_whatever_a_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch, until: float
) -> None:
    said: list[str] = []
    clock = time.time
    with lease(store, "s") as held:
        # the other machine's clock is an hour behind or ahead, or this one's has jumped
        monkeypatch.setattr(module.time, "time", lambda: clock() - until)
        message = f"study s is being searched by process {os.getpid()} on {HERE}"
        with pytest.raises(ValueError, match=message), lease(store, "s", said.append):
            pass
        assert not held.lost
    assert len(said) == 1
    assert "sign of life" in said[0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("until", [-5.0, 3600.0], ids=["it is over", "of a clock that was ahead"])
@pytest.mark.parametrize("asked", ["", ":stop"])
def test_one_elsewhere_that_shows_no_life_is_replaced_whatever_a_clock_says(
    store: Store, until: float, asked: str
) -> None:
    said: list[str] = []
    store.take_lease("s", f"{ELSEWHERE}:7:abc{asked}", until)
    with lease(store, "s", said.append) as held:
        assert not held.lost
        assert (store.study("s").owner or "").startswith(HERE)
    assert said[0].startswith("process 7 on elsewhere has not renewed its right to search s")


def test_one_elsewhere_whose_lease_lasts_is_not_disturbed(store: Store) -> None:
    store.take_lease("s", f"{ELSEWHERE}:7:abc", 30)
    with pytest.raises(ValueError, match="process 7 on elsewhere"), lease(store, "s"):
        pass
    assert store.study("s").owner == f"{ELSEWHERE}:7:abc"


def test_one_from_long_ago_is_not_waited_for(store: Store) -> None:
    store.take_lease("s", f"{ELSEWHERE}:7:abc", -2 * module.LONG_AGO)
    started = time.monotonic()
    with lease(store, "s"):
        assert time.monotonic() - started < 5
