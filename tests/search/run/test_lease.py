"""The right to drive a study: whoever has it is interrupted where somebody elsewhere asks for that."""

from __future__ import annotations

import signal
import time
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
    # a shell's background jobs ignore Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _stopped_from_elsewhere(store)
    finally:
        signal.signal(signal.SIGINT, before)


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
