"""What `status` says of a study whose process is gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from search.commands.status import as_text, statuses
from search.spec import parse_study
from storage.records import EpochRecord
from storage.store import Store

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 4, epochs: 3}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Trial 0 complete, trial 1 and baseline 1 under way."""
    store = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    values = parse_study(TEXT, "s").model_dump(mode="json")
    store.add_study("s", values, TEXT, {"accuracy": 0.1, "macs": 1e7})
    for kind, number in (("search", 0), ("search", 1), ("static", 1)):
        store.add_trial("s", kind, number, "gated_resnet", {"backbone": "resnet8"}, 0, 3)
    store.finish_trial("s", "search", 0, points=[], result={}, seconds=1.0)
    store.add_epoch("s", "search", 1, EpochRecord(epoch=1, metrics={}, gate_rates={}))
    return store


def owner(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:abc"


def gone() -> int:
    """The id of a process that is over."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_while_a_process_holds_the_lease_its_trainings_run(store: Store) -> None:
    assert store.take_lease("s", owner(os.getppid()), 60.0)
    text = as_text(statuses(store, "s")[0])
    assert text.startswith("s: searching\n  trials   1 complete, 1 running, of 4")
    assert "  running  trial 1: epoch 1 of 3" in text
    assert "  running  baseline 1: in its first epoch of 3" in text


@pytest.mark.parametrize("how", ["released", "died", "expired"])
def test_without_a_living_process_the_study_and_its_trainings_are_interrupted(
    store: Store, how: str
) -> None:
    if how != "released":
        pid = gone() if how == "died" else os.getpid()
        assert store.take_lease("s", owner(pid), 60.0 if how == "died" else -1.0)
    (one,) = statuses(store, "s")
    assert one["state"] == "interrupted; search again to go on"
    assert one["trials"]["by_state"] == {"complete": 1, "interrupted": 1}
    assert one["running"] == []
    assert [(t["kind"], t["trial"]) for t in one["interrupted"]] == [("search", 1), ("static", 1)]
    text = as_text(one)
    assert "1 complete, 1 interrupted, of 4" in text
    assert "  interrupted trial 1: epoch 1 of 3" in text
    assert "running" not in text


def test_a_study_that_has_spent_its_hours_says_that_searching_again_is_not_enough(
    store: Store,
) -> None:
    spec = store.study("s").spec
    store.set_spec("s", spec | {"budget": spec["budget"] | {"hours": 0.5}}, "study: s")
    assert statuses(store, "s")[0]["state"].startswith("interrupted;")
    store.add_seconds("s", 1801.0)
    state = "out of time; raise budget.hours and search again to go on"
    assert statuses(store, "s")[0]["state"] == state
    assert store.take_lease("s", owner(os.getppid()), 60.0)
    assert statuses(store, "s")[0]["state"] == "searching"
