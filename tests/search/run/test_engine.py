"""Engines: where trials run, and what happens when their process dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.run.checkpoint import Slot
from search.run.engine import Engine, InProcess, LocalProcesses
from search.run.job import Event, Failure, Job, Outcome, Rung
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult

PARAMS = {"backbone": "resnet8", "width": 0.25, "batch": 32, "granularity": "joint"}


def job(folder: Path, number: int = 0, epochs: int = 2, **values: object) -> Job:
    return Job(
        kind="search",
        number=number,
        family="gated_resnet",
        params=PARAMS | values,
        epochs=epochs,
        seed=number,
        data=DataSpec(source="digits", validation=0.2, train_limit=96),
        checkpoints=str(folder),
        key=f"s/search-{number:04d}",
        precision="float32",
        threads=1,
    )


def drained(engine: Engine, count: int, seconds: float = 120) -> list[tuple[Job, Event]]:
    """Everything that happens until `count` trials have ended or wait for an answer."""
    found: list[tuple[Job, Event]] = []
    end = time.monotonic() + seconds
    while sum(not isinstance(e, EpochResult) for _, e in found) < count:
        assert time.monotonic() < end, found
        if happened := engine.next_event(1.0):
            found.append(happened)
    return found


@pytest.mark.slow
def test_worker_processes_give_what_this_process_gives(tmp_path: Path) -> None:
    here = InProcess()
    here.submit(job(tmp_path / "a"))
    ours = [event for _, event in drained(here, 1)]
    there = LocalProcesses(1)
    try:
        there.submit(job(tmp_path / "b"))
        theirs = [event for _, event in drained(there, 1)]
    finally:
        there.close()
    assert [type(e) for e in ours] == [EpochResult, EpochResult, Outcome]
    assert isinstance(ours[-1], Outcome)
    assert isinstance(theirs[-1], Outcome)
    assert ours[-1].points == theirs[-1].points


@pytest.mark.slow
def test_a_killed_worker_is_a_crash_and_the_trial_goes_on_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    engine = LocalProcesses(1)
    try:
        engine.submit(job(tmp_path, epochs=40))
        while not isinstance((engine.next_event(60) or (None, None))[1], EpochResult):
            pass
        worker = engine._workers[0]
        assert worker is not None
        assert worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        rest = [event for _, event in drained(engine, 1)]
        last = rest[-1]
        last_epoch = max([1, *(event.epoch for event in rest if isinstance(event, EpochResult))])
        assert isinstance(last, Failure)
        assert last.crashed
        assert "exit code -9" in last.error
        engine.submit(job(tmp_path, epochs=40))
        first = engine.next_event(60)
        assert first is not None
        assert isinstance(first[1], EpochResult)
        assert first[1].epoch >= last_epoch, (
            "the record that may have been lost on the way comes again"
        )
    finally:
        engine.close()


@pytest.mark.slow
def test_a_checkpoint_of_another_candidate_in_the_same_place_is_not_taken_for_this_one(
    tmp_path: Path,
) -> None:
    engine = InProcess()
    engine.submit(job(tmp_path, target=0.3))
    drained(engine, 1)
    engine.submit(job(tmp_path, target=0.8))
    assert [type(event) for _, event in drained(engine, 1)] == [EpochResult, EpochResult, Outcome]
    engine.submit(job(tmp_path, target=0.8))
    assert [type(event) for _, event in drained(engine, 1)] == [EpochResult, Outcome], "its own is"


@pytest.fixture(params=["in process", "local processes"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made: Engine = InProcess() if request.param == "in process" else LocalProcesses(1)
    yield made
    made.close()


def kinds(found: list[tuple[Job, Event]]) -> list[type[Event]]:
    return [type(event) for _, event in found]


@pytest.mark.slow
def test_a_training_waits_at_its_rung_for_the_answer(tmp_path: Path, engine: Engine) -> None:
    one = replace(job(tmp_path), rungs=(1,))
    engine.submit(one)
    assert kinds(drained(engine, 1)) == [EpochResult, Rung]
    assert engine.next_event(1.0) is None, "two epochs take less"
    engine.answer(one, True)
    assert kinds(drained(engine, 1)) == [EpochResult, Outcome]


@pytest.mark.slow
def test_a_training_that_is_stopped_frees_its_slot_and_says_no_more(
    tmp_path: Path, engine: Engine
) -> None:
    one = replace(job(tmp_path), rungs=(1,))
    engine.submit(one)
    drained(engine, 1)
    worker = engine._workers[0] if isinstance(engine, LocalProcesses) else None
    engine.answer(one, False)
    assert engine.next_event(0.2) is None
    engine.submit(job(tmp_path, number=1))
    rest = drained(engine, 1)
    assert [(j.number, type(e)) for j, e in rest] == [
        (1, EpochResult),
        (1, EpochResult),
        (1, Outcome),
    ]
    if isinstance(engine, LocalProcesses):
        assert engine._workers[0] is worker, "the process is used again"
    engine.submit(replace(one, rungs=()))
    assert [e.epoch for _, e in drained(engine, 1) if isinstance(e, EpochResult)] == [1, 2], (
        "from its checkpoint"
    )


def killed(engine: LocalProcesses) -> None:
    worker = engine._workers[0]
    assert worker is not None
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()


@pytest.mark.slow
def test_a_worker_that_dies_while_it_waits_for_an_answer_has_crashed(tmp_path: Path) -> None:
    engine = LocalProcesses(1)
    one = replace(job(tmp_path), rungs=(1,))
    try:
        engine.submit(one)
        drained(engine, 1)
        killed(engine)
        engine.answer(one, True)
        ((ended, failure),) = drained(engine, 1)
        assert ended == one
        assert isinstance(failure, Failure)
        assert failure.crashed
        engine.submit(one)
        drained(engine, 1)
        killed(engine)
        engine.answer(one, False)
        assert engine.next_event(0.2) is None, "it was over anyway"
        engine.submit(job(tmp_path, number=1))
        assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Outcome]
    finally:
        engine.close()


@pytest.mark.slow
def test_a_job_submitted_right_after_a_failure_on_a_gpu_gets_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # the name is enough
    engine = LocalProcesses(1)
    try:
        engine.submit(
            replace(
                job(tmp_path), data=DataSpec(source=f"folder:{tmp_path / 'nowhere'}"), device="cpu"
            )
        )
        assert kinds(drained(engine, 1)) == [Failure]
        engine.submit(replace(job(tmp_path), device="cpu"))
        assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Outcome]
    finally:
        engine.close()


def test_a_trial_on_data_that_is_gone_fails_with_one_line(tmp_path: Path) -> None:
    engine = InProcess()
    engine.submit(replace(job(tmp_path), data=DataSpec(source=f"folder:{tmp_path / 'nowhere'}")))
    ((_, failure),) = drained(engine, 1)
    assert isinstance(failure, Failure)
    assert "nowhere" in failure.error
    assert not failure.crashed
    assert "Traceback" in failure.trace


def test_a_checkpoint_from_before_a_dimension_was_added_is_still_the_trials(tmp_path: Path) -> None:
    one = job(tmp_path)
    slot = Slot.of(one, Candidate.of(family(one.family), one.params, one.epochs))
    older = dict(
        slot.identity,
        params={k: v for k, v in slot.identity["params"].items() if k != "loss_weight"},
    )
    slot.checkpoints.save(slot.key, {"a": torch.zeros(1)}, {"identity": older})
    assert slot.load() is not None, "loss_weight has its default here"
    other = dict(older, params=older["params"] | {"target": 0.123})
    slot.checkpoints.save(slot.key, {"a": torch.zeros(1)}, {"identity": other})
    assert slot.load() is None
    unusual = job(tmp_path, loss_weight=7.0)
    slot = Slot.of(unusual, Candidate.of(family(unusual.family), unusual.params, unusual.epochs))
    slot.checkpoints.save(slot.key, {"a": torch.zeros(1)}, {"identity": older})
    assert slot.load() is None, "what was trained then had the default"


def test_a_checkpoint_from_before_a_setting_of_the_data_was_added_is_still_the_trials(
    tmp_path: Path,
) -> None:
    one = job(tmp_path)
    candidate = Candidate.of(family(one.family), one.params, one.epochs)
    slot, added = Slot.of(one, candidate), ("test", "resize", "class_weights")
    data = {k: v for k, v in slot.identity["data"].items() if k not in added}
    assert len(data) == len(slot.identity["data"]) - len(added)
    older = dict(slot.identity, data=data)
    slot.checkpoints.save(slot.key, {"a": torch.zeros(1)}, {"identity": older})
    assert slot.load() is not None, "all three have their defaults here"
    tolerant = replace(one, data=replace(one.data, skip_broken=True))
    assert Slot.of(tolerant, candidate).load() is not None, "of images that are the same"
    for changed in ({"resize": "pad"}, {"class_weights": "balanced"}, {"test": 0.2}, {"seed": 1}):
        other = replace(one, data=replace(one.data, **changed))
        assert Slot.of(other, candidate).load() is None, changed
