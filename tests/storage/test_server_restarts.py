"""A PostgreSQL server that restarts in the middle of a study; a server of its own, where PostgreSQL is installed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

import storage.attempts
from search.run.job import Job
from search.run.optuna_mirror import OptunaMirror, optuna_storage
from storage.attempts import Ends
from storage.database import Database
from storage.errors import LostConnectionError
from storage.finished import Finished
from storage.records import EpochRecord, Kind, State
from storage.store import Store
from tests.postgres import Server, running_postgres
from tests.search.run.bench import ALONE, Bench, outcome
from trainers.fit import EpochResult

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgres() as found:
        yield found


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
    trial_id, asked = storage.attempts.trial_id, list[int]()

    def restarting(*arguments: Any) -> int:
        found = trial_id(*arguments)
        if not asked:
            server.restart()
        asked.append(found)
        return found

    store.attempts.begin("s", Kind.SEARCH, 0)
    monkeypatch.setattr(storage.attempts, "trial_id", restarting)
    store.attempts.died("s", Kind.SEARCH, 0)
    assert len(asked) == 2
    monkeypatch.undo()
    assert store.attempts.ends("s", Kind.SEARCH, 0) == Ends(died=1)


def test_a_server_that_goes_away_before_it_says_that_it_has_written_has_written_once(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Finished(
        kind=Kind.SEARCH, number=0, points=[], result={}, seconds=1.0, state=State.STOPPED
    )
    store.finish_trials("s", [stopped])
    with monkeypatch.context() as patched:
        unsaid(patched)
        store.resume_trial("s", Kind.SEARCH, 0)
    assert store.trial("s", Kind.SEARCH, 0).state is State.RUNNING
    with monkeypatch.context() as patched:
        unsaid(patched)
        store.fail_trial("s", Kind.SEARCH, 0, error="no", epoch=None, trace="")
    assert len(store.failures("s")) == 1


def unsaid(patched: pytest.MonkeyPatch) -> None:
    """The first writing transaction from now on is committed, and the connection breaks before that is heard."""
    real, heard = Database.writing, list[None]()

    @contextmanager
    def breaking(self: Database, *, fenced: bool = True) -> Iterator[Connection]:
        with real(self, fenced=fenced) as connection:
            yield connection
        heard.append(None)
        if len(heard) == 1:
            raise LostConnectionError("the server closed the connection unexpectedly")

    patched.setattr(Database, "writing", breaking)


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


def test_a_study_goes_on_over_restarts_amid_its_trainings(server: Server, tmp_path: Path) -> None:
    url = server.new_database("amid")
    bench = Bench(tmp_path, ALONE + "budget: {trials: 3, epochs: 3}\n", url)
    bench.storage = optuna_storage(url)
    bench.store.say_on(lambda line: None)

    def script(job: Job, attempt: int) -> Any:
        yield EpochResult(1, EPOCH.metrics, {})
        server.restart()
        yield EpochResult(2, EPOCH.metrics, {})
        server.stop()
        threading.Timer(0.5, server.start).start()
        yield outcome(0.5, 1e6 * (job.number + 1))

    bench.drive(script)
    assert bench.complete
    assert bench.states() == dict.fromkeys(range(3), "complete")
    assert [len(bench.store.epochs("s", Kind.SEARCH, number)) for number in range(3)] == [2] * 3
    assert [len(trial.values) for trial in bench.optuna_trials()] == [2] * 3
    assert bench.store.failures("s") == []
    bench.storage.remove_session()
    bench.storage.engine.dispose()
    bench.store.close()
