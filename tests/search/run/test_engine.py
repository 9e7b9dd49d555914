"""Engines of processes: what happens when one dies, and what a checkpoint of an earlier one is worth."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.run.checkpoint import Slot
from search.run.engine import InProcess
from search.run.job import Failure, Notice, Outcome, Rung
from search.run.local_processes import LocalProcesses
from search.run.worker_process import WorkerProcess
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from tests.search.run.jobs import drained, job, kinds
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult


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
def test_a_job_that_is_kept_apart_cannot_take_this_process_down(tmp_path: Path) -> None:
    engine = InProcess()
    one = replace(job(tmp_path), rungs=(1,), apart=True)
    engine.submit(one)
    said = drained(engine, 1)
    assert said[0][1] == Notice(
        "trial 0: the search ended while it trained; now it has a process of its own"
    )
    said += drained(engine, 1)
    assert kinds(said) == [Notice, EpochResult, Rung]
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    engine.answer(one, True)
    ((_, failure),) = drained(engine, 1)
    assert isinstance(failure, Failure)
    assert failure.crashed
    engine.submit(replace(one, rungs=()))
    rest = kinds(drained(engine, 1) + drained(engine, 1))
    assert rest == [Notice, EpochResult, EpochResult, Outcome], "the last epoch comes again"
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_dies_before_its_first_job_takes_none_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent(worker: WorkerProcess, message: object) -> bool:
        worker.kill()
        return False

    monkeypatch.setattr(WorkerProcess, "sent", sent)
    engine = LocalProcesses(1)
    try:
        engine.submit(job(tmp_path))
        ((asked, failure),) = drained(engine, 1)
    finally:
        engine.close()
    assert asked == job(tmp_path)
    assert isinstance(failure, Failure)
    assert failure.crashed


def test_a_checkpoint_of_another_candidate_in_the_same_place_is_not_taken_for_this_one(
    tmp_path: Path,
) -> None:
    engine = InProcess()
    engine.submit(job(tmp_path, target=0.3))
    drained(engine, 1)
    engine.submit(job(tmp_path, target=0.8))
    assert [type(event) for _, event in drained(engine, 1)] == [EpochResult, EpochResult, Outcome]
    engine.submit(replace(job(tmp_path, target=0.8), reached=2))
    assert [type(event) for _, event in drained(engine, 1)] == [EpochResult, Outcome], "its own is"


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
    slot, added = (
        Slot.of(one, candidate),
        ("test", "resize", "class_weights", "crop_pct", "interpolation"),
    )
    data = {k: v for k, v in slot.identity["data"].items() if k not in added}
    assert len(data) == len(slot.identity["data"]) - len(added)
    older = dict(slot.identity, data=data)
    slot.checkpoints.save(slot.key, {"a": torch.zeros(1)}, {"identity": older})
    assert slot.load() is not None, "all have their defaults here"
    tolerant = replace(one, data=replace(one.data, skip_broken=True))
    assert Slot.of(tolerant, candidate).load() is not None, "of images that are the same"
    for changed in ({"resize": "pad"}, {"class_weights": "balanced"}, {"test": 0.2}, {"seed": 1}):
        other = replace(one, data=replace(one.data, **changed))
        assert Slot.of(other, candidate).load() is None, changed
