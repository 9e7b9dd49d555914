"""What the driver writes down costs few questions to the database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from search.run.books import Books
from search.run.job import Outcome
from search.run.time_spent import TimeSpent
from search.schedule.decisions import Trial
from search.spec import parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.attempts import Ends
from storage.database import Database
from storage.records import Kind, State
from storage.store import Store
from tests.points import operating_point
from trainers.fit import EpochResult

TEXT = (
    "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 9, epochs: 1, hours: 1}\n"
)
TRIAL = Trial(Kind.SEARCH, 0, Candidate.of(family("gated_resnet"), {}, 1), 0)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    spec, store = parse_study(TEXT, "s"), Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e9})
    return Books(store, "s", spec.costs)


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    begun: list[str] = []
    real = Database._in_transaction

    def counted(self: Database, engine: Engine) -> Connection:
        begun.append(engine.url.database or "")
        return real(self, engine)

    monkeypatch.setattr(Database, "_in_transaction", counted)
    return begun


def trained(books: Books) -> None:
    books.start(TRIAL)
    books.epochs([(TRIAL, EpochResult(1, {"val/accuracy": 0.5}, {}))])
    points = [operating_point(0.5, 1e6)]
    shown = books.end(TRIAL, Outcome(points, 10, 100, {"device": "cpu"}, 2.5))
    assert shown == books.store.points("s", number=0)


def test_a_trial_that_is_recorded_with_its_start_takes_one_transaction_for_both(
    books: Books, transactions: list[str]
) -> None:
    books.record(TRIAL, starts=True)
    trained(books)
    assert len(transactions) == 3 + 1, "and the one that reads its points here"


def test_trainings_that_end_together_are_written_together(
    books: Books, transactions: list[str]
) -> None:
    trials = [replace(TRIAL, number=number) for number in range(3)]
    for trial in trials:
        books.record(trial, starts=True)
    transactions.clear()
    curves = [[operating_point(0.1 * (n + k), 1e6 * k) for k in (1, 2)] for n in (5, 3, 1)]
    seen = [Outcome(one, 10, 100, {"device": "cpu"}, 2.5) for one in curves]
    shown = books.end_all(list(zip(trials, seen, strict=True)))
    assert len(transactions) == 1
    for number, points in enumerate(shown):
        assert points == books.store.points("s", number=number)
        assert [one.accuracy for one in points] == [one.accuracy for one in curves[number]]
    assert books.end_all([]) == []


def test_a_trial_of_one_epoch_takes_four_transactions(
    books: Books, transactions: list[str]
) -> None:
    books.record(TRIAL)
    assert books.ends(TRIAL) == Ends()
    assert books.trial(TRIAL) == books.trial(TRIAL)
    books.start(TRIAL)
    books.epochs([(TRIAL, EpochResult(1, {"val/accuracy": 0.5}, {}))])
    books.end(TRIAL, Outcome([operating_point()], 10, 100, {"device": "cpu"}, 2.5))
    assert len(transactions) == 4


def test_a_start_that_was_not_ended_is_known_as_lost_and_sessions_add_their_seconds(
    books: Books,
) -> None:
    books.record(TRIAL)
    books.start(TRIAL)
    assert books.ends(TRIAL) == Ends(lost=1)
    trained(books)
    books.resume(_stopped(books))
    trained(books)
    assert books.store.trial("s", Kind.SEARCH, 0).seconds == 5.0


def test_an_end_that_is_written_again_adds_no_seconds(books: Books) -> None:
    """As where Ctrl-C came when it was written, and Optuna's tables did not have it yet."""
    books.record(TRIAL, starts=True)
    trained(books)
    books.end(TRIAL, Outcome([operating_point(0.5, 1e6)], 10, 100, {"device": "cpu"}, 2.5))
    assert books.store.trial("s", Kind.SEARCH, 0).seconds == 2.5


def _stopped(books: Books) -> Trial:
    seconds = books.store.trial("s", Kind.SEARCH, 0).seconds
    result = {"stopped_at": 1}
    books.store.finish_trial(
        "s", Kind.SEARCH, 0, points=[], result=result, seconds=seconds, state=State.STOPPED
    )
    return TRIAL


def test_time_that_is_left_is_read_once_between_two_counts(
    books: Books, transactions: list[str]
) -> None:
    now = [0.0]
    spent = TimeSpent(books.store, "s", 1.0, lambda: now[0])
    assert spent.seconds_left() is None
    assert all(spent.left for _ in range(5))
    assert spent.seconds_left() == 3600.0
    assert len(transactions) == 1
    now[0] = 3000.0
    spent.count()
    assert spent.left
    assert spent.seconds_left() == 600.0
    now[0] = 3601.0
    assert not spent.left
    assert spent.seconds_left() == 0.0
    assert len(transactions) == 3
