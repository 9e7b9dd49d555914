"""Two processes that train one network: the same as one process, and none is left behind. On the CPU, by gloo."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from search.run.job import Event, Failure, Job, Outcome, Rung
from search.run.local_processes import LocalProcesses
from search.run.worker import events
from storage.checkpoints import Checkpoints
from tests.search.run.jobs import job
from trainers.fit import EpochResult

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
VIT = {"layers": 2, "dim": 32, "patch": 2, "batch": 32, "augment": False, "optimizer": "sgd"} | {
    "w_dropout_max": 0.0
}


def two(one: Job) -> Job:
    """The same job, trained by two processes."""
    return replace(one, gpus=2, device="cpu")


def saved(one: Job) -> dict[str, torch.Tensor]:
    """The tensors of the job's checkpoint."""
    found = Checkpoints(Path(one.checkpoints)).load(one.key)
    assert found is not None
    return found[0]


def losses(found: list[Event]) -> list[dict[str, float]]:
    """What each epoch's training showed, without its speed."""
    kept = [one.metrics for one in found if isinstance(one, EpochResult)]
    return [
        {k: v for k, v in one.items() if k.startswith("train/") and "second" not in k}
        for one in kept
    ]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ended(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(pid)


def partners(pid: int) -> set[int]:
    """The processes that train with it: forks of a process that it has started."""
    started = psutil.Process(pid).children()
    return {fork.pid for one in started for fork in one.children()}


def check_same(ours: Job, theirs: Job, *, but: tuple[str, ...] = ()) -> None:
    """The two trainings have the same checkpoint, up to rounding."""
    found, expected = saved(ours), saved(theirs)
    assert found.keys() == expected.keys()
    for name in found:
        if not name.endswith(but):
            torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4, msg=name)


def check_same_losses(found: list[Event], expected: list[Event]) -> None:
    assert isinstance(found[-1], Outcome)
    assert len(losses(found)) == len(losses(expected))
    for ours, theirs in zip(losses(found), losses(expected), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Event]]:
    """A training of two processes without a stop."""
    of = two(job(tmp_path_factory.mktemp("two"), augment=False))
    return of, list(events(of))


@pytest.mark.slow
def test_two_processes_train_a_network_as_one_process_does_with_micro_batches(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    alone = job(tmp_path, augment=False, micro_batch=16)
    check_same_losses(straight[1], list(events(alone)))
    check_same(straight[0], alone, but=STATISTICS)


@pytest.mark.slow
def test_without_batch_norms_two_processes_train_as_one_does_with_the_whole_batch(
    tmp_path: Path,
) -> None:
    alone = replace(job(tmp_path / "one"), family="dense_vit", params=VIT)
    together = two(replace(alone, checkpoints=str(tmp_path / "two")))
    check_same_losses(list(events(together)), list(events(alone)))
    check_same(together, alone)


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_as_if_it_had_not_stopped(
    straight: tuple[Job, list[Event]], tmp_path: Path
) -> None:
    stopped = replace(straight[0], checkpoints=str(tmp_path), rungs=(1,))
    before, running = partners(os.getpid()), events(stopped)
    while not isinstance(next(running), Rung):
        pass
    (partner,) = partners(os.getpid()) - before
    running.close()
    assert not alive(partner)
    assert isinstance(list(events(stopped))[-1], Outcome)
    for name, tensor in saved(stopped).items():
        assert torch.equal(tensor, saved(straight[0])[name]), name


@pytest.mark.slow
def test_a_killed_process_leaves_none_behind_and_its_trial_goes_on(tmp_path: Path) -> None:
    engine = LocalProcesses(1, gpus_per_trial=2)
    one, reached = two(job(tmp_path, epochs=400)), 1
    try:
        for kills_first in (False, True):
            engine.submit(one)
            found = until(engine, EpochResult)
            assert isinstance(found, EpochResult)
            assert found.epoch >= reached
            reached = found.epoch
            worker = engine._workers[0]
            assert worker is not None
            first = worker.process.pid
            assert first is not None
            (other,) = partners(first)
            os.kill(first if kills_first else other, signal.SIGKILL)
            failure = until(engine, Failure)
            assert isinstance(failure, Failure)
            assert failure.crashed
            who = "its worker process" if kills_first else "process 2 of the training"
            assert f"{who} ended (exit code -9" in failure.error
            assert ended(other)
            assert ended(first) == kills_first
    finally:
        engine.close()


def until(engine: LocalProcesses, kind: type[Event], seconds: float = 120) -> Event:
    """The next event of a kind."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (happened := engine.next_event(1)) and isinstance(happened[1], kind):
            return happened[1]
    raise AssertionError(f"no {kind.__name__}")
