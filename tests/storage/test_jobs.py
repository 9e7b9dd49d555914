"""Jobs: what waits, what runs, and that each ends once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from storage.jobs import Jobs
from storage.records import JobRecord, JobState
from storage.store import Store

KINDS = ("search",)
Add = Callable[..., JobRecord | None]


@pytest.fixture
def jobs(store: Store) -> Jobs:
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM dynafront_job")
    return store.jobs


@pytest.fixture
def add(jobs: Jobs) -> Add:
    def added(kind: str = "search", host: str = "here", most: int = 9) -> JobRecord | None:
        return jobs.add(kind, "s", ["search", "s.yml"], host=host, folder="jobs/1", most=most)

    return added


def test_a_job_waits_runs_and_ends(jobs: Jobs, add: Add) -> None:
    job = add()
    assert job is not None
    assert (job.state, job.arguments, job.pid) == (JobState.QUEUED, ["search", "s.yml"], None)
    assert jobs.take(job, KINDS, 1)
    assert jobs.begin(job.id, 7)
    before = jobs.job(job.id)
    assert before is not None
    assert (before.state, before.pid) == (JobState.RUNNING, 7)
    jobs.beat(job.id)
    assert jobs.job(job.id).seen_at >= before.seen_at
    assert jobs.finish(job.id, JobState.DONE, result={"export": 3})
    ended = jobs.job(job.id)
    assert (ended.state, ended.result) == (JobState.DONE, {"export": 3})
    assert ended.finished_at >= ended.started_at >= ended.created_at


def test_a_job_ends_once(jobs: Jobs, add: Add) -> None:
    job = add()
    jobs.take(job, KINDS, 1)
    assert jobs.finish(job.id, JobState.FAILED, error="it died")
    assert not jobs.finish(job.id, JobState.DONE)
    assert not jobs.begin(job.id, 8)
    assert not jobs.cancel_waiting(job.id)
    assert jobs.job(job.id).error == "it died"


def test_no_more_run_at_once_than_may(jobs: Jobs, add: Add) -> None:
    first, second, export, elsewhere = add(), add(), add("export"), add(host="there")
    assert jobs.take(first, KINDS, 1)
    assert not jobs.take(first, KINDS, 1), "it runs"
    assert not jobs.take(second, KINDS, 1)
    assert jobs.take(export, ("export",), 1), "others are counted apart"
    assert jobs.take(elsewhere, KINDS, 1), "other machines are counted apart"
    jobs.finish(first.id, JobState.DONE)
    assert jobs.take(second, KINDS, 1)


def test_of_servers_that_take_the_same_jobs_at_once_each_job_has_one(jobs: Jobs, add: Add) -> None:
    waiting = [job for _ in range(5) if (job := add(most=5)) is not None]
    together = Barrier(6)

    def server(_: int) -> list[int]:
        together.wait(30)
        return [job.id for job in waiting if jobs.take(job, KINDS, 9)]

    with ThreadPoolExecutor(6) as servers:
        taken = [one for found in servers.map(server, range(6)) for one in found]
    assert sorted(taken) == [job.id for job in waiting]


def test_one_that_waits_is_cancelled_and_one_that_runs_is_not(jobs: Jobs, add: Add) -> None:
    first, second = add(), add()
    jobs.take(first, KINDS, 1)
    assert not jobs.cancel_waiting(first.id)
    assert jobs.cancel_waiting(second.id)
    assert not jobs.take(second, KINDS, 9)
    assert [job.id for job in jobs.open_jobs()] == [first.id]


def test_a_full_queue_takes_no_more(jobs: Jobs, add: Add) -> None:
    assert add(most=2)
    last = add(most=2)
    assert add(most=2) is None
    jobs.finish(last.id, JobState.DONE)
    assert add(most=2)


def test_the_newest_come_first_and_those_of_a_study_alone(jobs: Jobs, add: Add) -> None:
    first, second = add(), add()
    other = jobs.add("export", "t", ["export", "t"], host="here", folder="jobs/2", most=9)
    assert [job.id for job in jobs.jobs()] == [other.id, second.id, first.id]
    assert [job.id for job in jobs.jobs("s")] == [second.id, first.id]
    assert [job.id for job in jobs.open_jobs("t")] == [other.id]
    assert len(jobs.jobs(most=2)) == 2
    assert jobs.job(10**6) is None


def test_the_oldest_that_have_ended_are_forgotten(jobs: Jobs, add: Add) -> None:
    first, second, third, fourth = (add() for _ in range(4))
    for job in (first, third):
        jobs.finish(job.id, JobState.DONE)
    assert jobs.forget(4) == []
    assert [job.id for job in jobs.forget(1)] == [third.id, first.id]
    assert [job.id for job in jobs.jobs()] == [fourth.id, second.id], "open ones stay"


def test_jobs_of_a_study_outlive_it(store: Store, jobs: Jobs, add: Add) -> None:
    store.add_study("s", {"budget": {"trials": 4}}, "study: s\n", {"accuracy": 0.1, "macs": 1e6})
    job = add("delete")
    store.delete_study("s")
    assert jobs.job(job.id) is not None


def test_how_long_a_job_is_silent_is_told_by_one_clock(
    jobs: Jobs, add: Add, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not store.has_clock:
        pytest.skip("SQLite has this machine's")
    job = add()
    assert jobs.take(job, KINDS, 1)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    jobs.beat(job.id)
    monkeypatch.undo()
    assert 0 <= jobs.silence(job.id) < 60


def test_servers_that_share_a_database_take_the_last_place_once(jobs: Jobs, add: Add) -> None:
    waiting = [add() for _ in range(6)]
    assert at_once([partial(jobs.take, job, KINDS, 1) for job in waiting]).count(True) == 1


def test_servers_that_share_a_database_fill_the_queue_and_no_more(jobs: Jobs, add: Add) -> None:
    made = at_once([partial(add, most=2) for _ in range(6)])
    assert made.count(None) == 4


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What the calls return, each in a thread and a connection of its own."""
    begun = Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        begun.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))
