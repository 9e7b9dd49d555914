"""Trainings that take too long, hang or take too much memory are ended; their process is replaced."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from mmap import ACCESS_READ, PAGESIZE, mmap
from pathlib import Path

import psutil
import pytest

from search.run.engine import engine_for
from search.run.job import Failure, Outcome
from search.run.local_processes import LocalProcesses
from search.run.watch import LONGEST, TrialLimits, Watch, kernel_kills, own_memory
from search.study_parts import Run
from tests.search.run.jobs import drained, job, kinds
from trainers.fit import EpochResult


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0

    def watch(self, used: float = 0, **limits: float) -> Watch:
        return Watch(TrialLimits(**limits), lambda: self.steps, lambda: int(used), lambda: self.now)


def test_a_training_without_bounds_may_take_what_it_wants() -> None:
    clock = Clock()
    watch = clock.watch(1e15)
    for _ in range(1000):
        clock.now += 1000
        assert watch.look() is None


def test_a_training_that_does_nothing_for_too_long_hangs() -> None:
    clock = Clock()
    watch = clock.watch(stall_seconds=20)
    for _ in range(10):  # it works
        clock.now, clock.steps = clock.now + 9, clock.steps + 1
        assert watch.look() is None
    clock.now += 9
    assert watch.look() is None
    watch.heard()
    clock.now += 9
    assert watch.look() is None
    clock.now += 9
    assert watch.look() is None, "it said something 18 seconds ago"
    clock.now += 9
    found = watch.look()
    assert found is not None
    assert found.crashed, "another process may do better"
    assert found.error == "it did nothing for run.stall_minutes: 0.333333; its process hangs"


def test_time_in_which_the_search_was_suspended_does_not_count() -> None:
    clock = Clock()
    watch = clock.watch(stall_seconds=2 * LONGEST, seconds=2 * LONGEST)
    clock.now += 3600
    assert watch.look() is None
    clock.now += 3600
    assert watch.look() is None
    clock.now += 1
    assert watch.look() is not None


def test_a_training_that_takes_too_long_or_too_much_memory_has_failed() -> None:
    clock = Clock()
    watch = clock.watch(seconds=3600)
    for _ in range(360):
        clock.now, clock.steps = clock.now + 10, clock.steps + 1
        assert watch.look() is None
    clock.now += 1
    assert watch.look() == Failure("it took more than run.trial_hours: 1", None, "")
    large = clock.watch(2.1e9, memory=2e9)
    assert large.look() == Failure(
        "it took 2.10 GB of memory, more than run.memory_gigabytes: 2", None, ""
    )


def test_pages_of_files_are_not_memory_of_a_process(tmp_path: Path) -> None:
    size, file, me = 2**26, tmp_path / "pixels", psutil.Process()
    file.write_bytes(bytes(size))
    own, resident = own_memory(me.pid), me.memory_info().rss
    with file.open("rb") as opened, mmap(opened.fileno(), size, access=ACCESS_READ) as mapped:
        assert not any(mapped[::PAGESIZE])  # every page is read
        assert me.memory_info().rss - resident > 0.9 * size
        assert abs(own_memory(me.pid) - own) < 0.2 * size
    pixels = b"x" * size
    assert own_memory(me.pid) - own > 0.9 * len(pixels)
    assert own_memory(2**22 + 1) == 0, "there is no such process"


def test_what_the_kernel_killed_is_counted_where_it_says_so(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    assert kernel_kills(counters) is None
    counters.write_text("nr_free_pages 5\noom_kill 7\n")
    assert kernel_kills(counters) == 7
    counters.write_text("nr_free_pages 5\n")
    assert kernel_kills(counters) is None


@pytest.mark.parametrize("key", ["trial_hours", "stall_minutes", "memory_gigabytes"])
def test_bounds_that_need_a_process_of_their_own_are_refused_without_one(key: str) -> None:
    with pytest.raises(ValueError, match=f"run.{key}: with 0 workers no process of a training"):
        engine_for(0, Run(**{key: 1.5}))
    assert engine_for(0, Run()).slots == 1


def process_of(engine: LocalProcesses) -> psutil.Process:
    worker = engine._workers[0]
    assert worker is not None
    return psutil.Process(worker.process.pid)


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_its_training_goes_on(tmp_path: Path) -> None:
    engine = LocalProcesses(1, TrialLimits(stall_seconds=4))
    one = replace(job(tmp_path), rungs=(1,))
    try:
        engine.submit(one)
        drained(engine, 1)
        hung = process_of(engine)
        os.kill(hung.pid, signal.SIGSTOP)
        engine.answer(one, True)
        ((ended, failure),) = drained(engine, 1)
        assert ended == one
        assert isinstance(failure, Failure)
        assert (failure.crashed, failure.epoch) == (True, 2)
        assert "its process hangs" in failure.error
        assert not hung.is_running()
        engine.submit(replace(one, rungs=()))
        assert [e.epoch for _, e in drained(engine, 1) if isinstance(e, EpochResult)] == [1, 2]
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (TrialLimits(seconds=2.0), "it took more than run.trial_hours"),
        (TrialLimits(memory=30e6), "more than run.memory_gigabytes: 0.03"),
    ],
)
def test_a_training_beyond_its_bounds_is_ended_and_the_next_one_trains(
    tmp_path: Path, limits: TrialLimits, reason: str
) -> None:
    engine = LocalProcesses(1, limits)
    try:
        engine.submit(job(tmp_path, epochs=10_000))
        first = None
        while first is None:
            first = engine.next_event(60)
        began = process_of(engine) if isinstance(first[1], EpochResult) else None
        ((_, failure),) = drained(engine, 1)[-1:] if began else (first,)
        assert isinstance(failure, Failure)
        assert reason in failure.error
        assert not failure.crashed
        assert began is None or not began.is_running()
        engine._limits = TrialLimits()
        engine.submit(job(tmp_path, number=1))
        assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Outcome]
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counted", "memory"), [([7, 7, 8], True), ([7, 7, 7], False), ([None] * 3, True)]
)
def test_a_worker_that_the_kernel_kills_ran_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int | None], memory: bool
) -> None:
    seen = iter(counted)
    monkeypatch.setattr("search.run.worker_process.kernel_kills", lambda: next(seen))
    engine = LocalProcesses(1)
    try:
        engine.submit(job(tmp_path, epochs=10_000))
        while engine.next_event(60) is None:
            pass
        process_of(engine).kill()
        (_, failure) = drained(engine, 1)[-1]
        assert isinstance(failure, Failure)
        assert (failure.crashed, failure.memory) == (True, memory)
        assert ("memory ran out" in failure.error) == memory
    finally:
        engine.close()


def test_no_worker_outlives_its_engine(tmp_path: Path) -> None:
    engine = LocalProcesses(1)
    engine.submit(job(tmp_path, epochs=10_000))
    process = process_of(engine)
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    engine.close()
    assert not process.is_running()
    assert time.monotonic() - started < 20
