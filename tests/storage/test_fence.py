"""A store of who drives a study no more: it writes nothing, and says why."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import storage.database
import storage.fence
from storage.errors import StorageError, TakenOverError
from storage.fence import Fence
from storage.finished import Finished
from storage.records import EpochRecord, Kind
from storage.store import Store

OVER = "another process has taken this study over; dynafront status shows how it is"
EPOCH = EpochRecord(1, {"val/accuracy": 0.5}, {})
WRITES: dict[str, Callable[[Store], Any]] = {
    "a trial": lambda s: s.add_trial("digits", Kind.SEARCH, 1, "resnet", {}, 0, 3),
    "a trial that begins": lambda s: s.add_trial(
        "digits", Kind.SEARCH, 1, "resnet", {}, 0, 3, begins=True
    ),
    "an epoch": lambda s: s.add_epochs("digits", [((Kind.SEARCH, 0), EPOCH)]),
    "a rung": lambda s: s.add_rung("digits", Kind.SEARCH, 0, 1, {}),
    "an end": lambda s: s.finish_trials(
        "digits", [Finished(kind=Kind.SEARCH, number=0, points=[], result={}, seconds=1.0)]
    ),
    "a failure": lambda s: s.fail_trial("digits", Kind.SEARCH, 0, error="no", epoch=None, trace=""),
    "a start": lambda s: s.attempts.begin("digits", Kind.SEARCH, 0),
    "a death": lambda s: s.attempts.died("digits", Kind.SEARCH, 0),
    "suggestions": lambda s: s.suggestions.keep("digits", 1, [{"depth": 1}]),
    "time": lambda s: s.add_seconds("digits", 5.0),
    "the file": lambda s: s.set_spec("digits", {}, "text"),
    "a run": lambda s: s.set_run("digits", Kind.SEARCH, 0, "run"),
}


def tables(store: Store) -> list[Any]:
    """All that these writes could change."""
    study = store.study("digits")
    return [
        (study.seconds_spent, study.text),
        store.trials("digits"),
        store.epochs("digits", Kind.SEARCH, 0),
        store.rungs("digits"),
        store.failures("digits"),
        store.attempts.ends("digits", Kind.SEARCH, 0),
        store.suggestions.left("digits", 1),
    ]


@pytest.fixture
def driver(digits: Store, url: str) -> Iterator[Store]:
    """The store of the first driver, "me"; `digits` is everybody else's."""
    found = Store.open(url)
    assert found.take_lease("digits", "me", 60)
    found.fence = Fence("digits", "me")
    found.add_trial("digits", Kind.SEARCH, 0, "resnet", {}, 0, 3)
    yield found
    found.close()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_whoever_lost_the_lease_writes_nothing(
    driver: Store, digits: Store, write: Callable[[Store], Any]
) -> None:
    digits.release_lease("digits", "me")
    assert digits.take_lease("digits", "you", 60)
    before = tables(digits)
    with pytest.raises(TakenOverError, match=OVER):
        write(driver)
    assert tables(digits) == before
    assert driver.is_taken_over
    assert not driver.renew_lease("digits", "me", 60), "to ask for the lease is no such write"
    write(digits)
    assert tables(digits) != before or write is WRITES["a death"]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_whoever_holds_it_writes_also_after_its_end_or_asked_to_stop(
    driver: Store, digits: Store, write: Callable[[Store], Any]
) -> None:
    driver.renew_lease("digits", "me", 1)
    assert digits.ask_to_stop("digits")
    driver.renew_lease("digits", "me", -1)
    write(driver)
    assert not driver.is_taken_over


def test_the_lease_cannot_be_taken_while_its_owner_writes(driver: Store, digits: Store) -> None:
    """It would be no help to ask first, and be suspended in between."""
    driver.renew_lease("digits", "me", -1)
    taken: list[float] = []

    def take() -> None:
        assert digits.take_lease("digits", "you", 60)
        taken.append(time.monotonic())

    thread = threading.Thread(target=take)
    with driver._database.writing():
        thread.start()
        time.sleep(0.5)
        assert not taken
    thread.join(20)
    assert taken
    with pytest.raises(TakenOverError):
        driver.add_seconds("digits", 1.0)


def test_a_server_undoes_what_a_suspended_process_began(
    driver: Store, digits: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.startswith("sqlite"):
        return  # the file stays locked, and whoever comes next says so
    monkeypatch.setattr(storage.database, "IDLE_SECONDS", 1)
    driver._database.close()  # connections from before
    driver.renew_lease("digits", "me", -1)
    started = time.monotonic()
    cut_off = pytest.raises(StorageError, match=r"idle-in-transaction|closed|terminat")
    with cut_off, driver._database.writing() as connection:
        connection.exec_driver_sql("UPDATE dynafront_study SET seconds_spent = 99")
        assert digits.take_lease("digits", "you", 60)
        assert 0.5 < time.monotonic() - started < 30
    assert digits.study("digits").seconds_spent == 0.0
    assert digits.study("digits").owner == "you"


def test_what_a_database_says_of_the_question_for_the_lease_is_told_as_all_else(
    driver: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ("IN_SQLITE", "IN_POSTGRES"):
        monkeypatch.setattr(storage.fence, one, f"{getattr(storage.fence, one)} nonsense")
    place = url.removeprefix("sqlite:///")
    with pytest.raises(StorageError, match=f"^{re.escape(place)}: .*syntax error"):
        driver.add_epoch("digits", Kind.SEARCH, 0, EPOCH)
