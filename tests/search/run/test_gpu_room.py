"""Several trainings a GPU: where each goes, which waits, and how long. GPUs are made up, processes are real."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search.run.engine as engine_module
from search.run.engine import InProcess, engine_for
from search.run.gpu_memory import USUAL
from search.run.gpu_needs import measuring_for
from search.run.gpu_room import LEAVE_SECONDS, WHOLE
from search.run.job import Job, Outcome
from search.run.local_processes import IDLE_SECONDS, LocalProcesses
from search.run.number_formats import NumberFormats
from search.study_parts import Run
from spaces.contract.task import Task
from storage.records import Kind
from storage.store import Store
from tests.search.run.gpus import GB, Machine
from tests.search.run.jobs import drained, job

TASK = Task(channels=1, height=8, width=8, classes=10)


def name(number: int) -> tuple[Kind, int]:
    return Kind.SEARCH, number


def test_trainings_go_where_most_room_is_and_wait_where_none_is_enough() -> None:
    room = Machine().room()
    assert room.place(name(0), 4 * GB) == 0
    assert room.place(name(1), 6 * GB) == 1
    assert room.place(name(2), 6 * GB) == 0, "6 of 10 are left there, 4 on the other"
    assert room.place(name(3), 9 * GB) is None
    assert room.place(name(4), 4 * GB) == 1, "exactly what is left"
    assert room.place(name(5), 1) is None


def test_what_has_ended_leaves_its_room() -> None:
    room = Machine().room()
    room.place(name(0), 6 * GB)
    room.place(name(1), 9 * GB)
    assert room.place(name(2), 9 * GB) is None
    room.release(name(7))  # that was never here
    assert room.place(name(2), 9 * GB) is None
    room.release(name(1))
    assert room.place(name(2), 9 * GB) == 1


def test_what_trains_counts_with_its_peak_and_not_with_what_it_has_now() -> None:
    machine = Machine()
    room = machine.room()
    room.place(name(0), 9 * GB)
    room.place(name(1), 9 * GB)
    machine.used = [0.5, 0.5]  # both have just begun
    assert room.place(name(2), 4 * GB) is None


def test_memory_of_others_counts() -> None:
    machine = Machine(used=[5.0, 0.0])
    room = machine.room()
    assert room.place(name(0), 6 * GB) == 1
    assert room.place(name(1), 6 * GB) is None, "5 are free on one, 4 on the other"
    assert room.place(name(1), 5 * GB) == 0
    machine.used = [9.0, 0.0]
    assert room.place(name(2), 1 * GB) == 1
    machine.used = [9.0, 10.0]  # 3 more than ours can have
    assert room.place(name(3), 1 * GB) is None


def test_what_others_have_is_remembered_while_ours_have_less_than_their_peaks() -> None:
    machine = Machine(used=[5.0, 10.0])
    room = machine.room()
    assert room.place(name(0), 4 * GB) == 0
    machine.used = [5.5, 10.0]  # 4.5 look free
    assert room.place(name(1), 2 * GB) is None


def test_what_an_ended_training_has_not_given_back_yet_is_not_taken_for_that_of_others() -> None:
    machine = Machine(used=[0.0, 10.0])
    room = machine.room()
    room.place(name(0), 6 * GB)
    machine.used[0] = 6.0
    room.release(name(0))
    assert room.place(name(1), 6 * GB) == 0
    assert room.place(name(2), 4 * GB) == 0
    machine.now += LEAVE_SECONDS
    machine.used[0] = 10.0
    assert room.place(name(3), GB) is None
    machine.used[0] = 0.0
    room.release(name(1))
    room.release(name(2))
    machine.now += LEAVE_SECONDS
    machine.used[0] = 2.0
    assert room.place(name(3), 9 * GB) == 0, "it is alone, and waiting for ours would not help"


@pytest.mark.parametrize("needed", [10 * GB, 11 * GB, WHOLE])
def test_alone_on_an_idle_gpu_a_training_always_starts(needed: int) -> None:
    machine = Machine(used=[3.0, 1.0])
    room = machine.room()
    assert room.place(name(0), needed) == 1, "more is free there"
    assert room.place(name(1), needed) == 0
    assert room.place(name(2), needed) is None
    room.release(name(0))
    assert room.place(name(2), needed) == 1


def test_a_training_does_not_start_where_others_leave_too_little_while_one_of_ours_will_end() -> (
    None
):
    room = Machine(used=[8.0, 0.0]).room()
    assert room.place(name(0), 3 * GB) == 1
    assert room.place(name(1), 9 * GB) is None
    room.release(name(0))
    assert room.place(name(1), 9 * GB) == 1


@given(
    needs=st.lists(st.integers(1, 14), min_size=1, max_size=12),
    used=st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
def test_whatever_trainings_need_each_gets_its_turn_and_what_fits_is_never_too_much(
    needs: list[int], used: tuple[int, int]
) -> None:
    room, running = Machine(used=list(map(float, used))).room(), dict[int, int]()
    for number, needed in enumerate(needs):
        while (place := room.place(name(number), needed * GB)) is None:
            assert running, "it waits for nothing"
            room.release(name(oldest := next(iter(running))))
            del running[oldest]
        there = sum(needs[one] for one, where in running.items() if where == place)
        assert not there or there + needed + used[place] <= 10
        running[number] = place


@pytest.mark.slow
def test_an_engine_lets_a_large_job_wait_and_those_behind_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")  # the names are enough
    machine = Machine()
    engine = LocalProcesses(4, room=machine.room())

    def one(number: int, gb: int, epochs: int = 1) -> Job:
        return replace(job(tmp_path, number, epochs), device="cpu", gpu_bytes=gb * GB)

    def training() -> dict[int, int]:
        return {
            job.number: engine._places[index]
            for index, worker in engine._busy()
            for job in worker.jobs.values()
        }

    try:
        engine.submit(one(0, 6))
        engine.submit(one(1, 6, epochs=400))
        assert engine.has_room
        engine.submit(one(2, 9))
        engine.submit(one(3, 4))
        assert training() == {0: 0, 1: 1}
        assert not engine.has_room, "4 would fit, but then 9 might never"
        assert engine.slots == 4
        ((ended, outcome), *_) = [two for two in drained(engine, 1) if isinstance(two[1], Outcome)]
        assert (ended.number, type(outcome)) == (0, Outcome)
        engine.next_event(0.0)
        assert training() == {1: 1, 2: 0, 3: 1}
        assert engine.has_room
    finally:
        engine.close()
    assert machine.closed


def test_trainings_that_are_to_be_on_one_gpu_go_where_all_of_them_have_room() -> None:
    room = Machine(used=[0.0, 3.0]).room()
    assert room.look()
    assert room.place_together({name(0): 3 * GB, name(1): 3 * GB}) == 0
    assert room.place_together({name(2): 4 * GB, name(3): 4 * GB}) is None
    assert room.place_together({name(2): 3 * GB, name(3): 3 * GB}) == 1
    room.release(name(1))
    assert room.place(name(4), 7 * GB) == 0


@pytest.mark.slow
def test_a_group_is_as_large_as_a_gpu_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    engine = LocalProcesses(2, room=Machine().room(), fused=4)
    try:
        for number in range(8):
            one = replace(job(tmp_path, number, 400), device="cpu", gpu_bytes=3 * GB)
            engine.submit(one)
        engine.next_event(0.0)
        busy = [sorted(number for _, number in worker.jobs) for _, worker in engine._busy()]
        assert sorted(busy) == [[0, 1, 2], [3, 4, 5]], "three of 3 GB on each of 10 GB"
    finally:
        engine.close()


@pytest.mark.slow
def test_jobs_that_train_as_one_go_as_one_to_a_gpu_that_has_room_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    engine = LocalProcesses(3, room=Machine().room(), fused=2)

    def training() -> list[tuple[int, list[int]]]:
        busy = [(engine._places[index], worker.jobs) for index, worker in engine._busy()]
        return [(place, [number for _, number in jobs]) for place, jobs in busy]

    try:
        for number in range(6):
            epochs = 1 if number < 2 else 400
            one = replace(job(tmp_path, number, epochs), device="cpu", gpu_bytes=3 * GB)
            engine.submit(one)
            assert engine.has_room == (number < 5), "two wait for each other, and then for a GPU"
        assert training() == [(0, [0, 1]), (1, [2, 3])]
        ended = [one for one, event in drained(engine, 2) if isinstance(event, Outcome)]
        assert sorted(one.number for one in ended) == [0, 1]
        engine.next_event(0.0)
        assert sorted(training()) == [(0, [4, 5]), (1, [2, 3])]
        assert engine.has_room
    finally:
        engine.close()


@pytest.mark.slow
def test_where_memory_cannot_be_read_workers_keep_their_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    engine = LocalProcesses(3, room=Machine(used=[]).room())
    try:
        for number in range(3):
            engine.submit(replace(job(tmp_path, number), device="cpu", gpu_bytes=WHOLE))
        assert engine.has_room
        assert engine._places == [0, 1, 0]
    finally:
        engine.close()


@pytest.mark.slow
def test_an_idle_worker_of_another_gpu_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    machine = Machine()
    engine = LocalProcesses(1, room=machine.room())
    small = replace(job(tmp_path, epochs=1), device="cpu", gpu_bytes=GB)
    try:
        engine.submit(small)
        drained(engine, 1)
        first = engine._workers[0]
        assert first is not None
        machine.used, machine.now = [9.0, 0.0], LEAVE_SECONDS
        engine.submit(replace(small, number=1, key="s/search-0001"))
        second = engine._workers[0]
        assert second is not None
        assert first.process.exitcode is not None
        assert engine._places == [1]
        drained(engine, 1)
    finally:
        engine.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    store.add_study("s", {}, "", {})
    return store


@dataclass
class WithContexts(Machine):
    """Its first GPU lends half a gigabyte to each living process of a worker, as CUDA does."""

    processes: list[BaseProcess] = field(default_factory=list)

    def __call__(self) -> Sequence[tuple[int, int]]:
        self.used[0] = sum(one.is_alive() for one in self.processes) / 2
        return super().__call__()


@pytest.mark.slow
def test_what_an_idle_process_keeps_of_its_gpu_is_not_taken_for_that_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    machine = WithContexts(used=[0.0, 10.0])
    engine = LocalProcesses(2, room=machine.room())

    def one(number: int, gb: int, epochs: int) -> Job:
        return replace(job(tmp_path, number, epochs), device="cpu", gpu_bytes=gb * GB)

    def process() -> BaseProcess:
        worker = engine._workers[0]
        assert worker is not None
        return worker.process

    try:
        engine.submit(one(0, 8, epochs=1))
        first = process()
        drained(engine, 1)
        engine.submit(one(1, 8, epochs=1))
        assert process() is first, "the next job came at once"
        drained(engine, 1)
        time.sleep(IDLE_SECONDS)
        engine.next_event(0.0)
        assert not first.is_alive()
        engine.submit(one(2, 8, epochs=1))
        machine.processes.append(process())
        drained(engine, 1)
        time.sleep(IDLE_SECONDS)
        machine.now += LEAVE_SECONDS  # all that while the driver asked for nothing
        engine.submit(one(3, 5, epochs=400))
        engine.submit(one(4, 5, epochs=400))
        assert engine.has_room
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("workers", "run", "shared"),
    [
        (4, Run(), True),
        (2, Run(), False),
        (4, Run(device="cpu"), False),
        (4, Run(gpus_per_trial=2), False),
    ],
)
def test_memory_is_looked_at_where_workers_share_gpus(
    monkeypatch: pytest.MonkeyPatch, workers: int, run: Run, shared: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(engine_module, "gpus_found", lambda: 2)
    engine = engine_for(workers, run)
    assert isinstance(engine, LocalProcesses)
    assert (engine.room is not None) == shared
    monkeypatch.setattr(engine_module, "gpus_found", lambda: 0)  # PyTorch finds none of them
    alone = engine_for(workers, run)
    assert isinstance(alone, LocalProcesses)
    assert alone.room is None


def test_only_where_gpus_are_shared_is_memory_measured(store: Store, tmp_path: Path) -> None:
    formats = NumberFormats(store.formats, "s", lambda: TASK, print)
    assert measuring_for(InProcess(), formats) == formats.of
    assert measuring_for(LocalProcesses(2), formats) == formats.of
    shared = LocalProcesses(2, room=Machine().room())
    assert measuring_for(shared, formats) != formats.of


def test_without_mps_a_process_takes_no_less_than_usual_beside_its_tensors() -> None:
    room = Machine().room()
    assert room.overhead() == GB // 2
    room.leave_mps()
    assert room.overhead() == USUAL
