"""Threads of a trial: measured once a size, kept with its format, and the same when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

import search.run.number_formats as module
from search.run.checkpoint import Slot
from search.run.job import Job, Outcome
from search.run.jobs import most_threads_for
from search.run.number_formats import CrashedError, NumberFormats, Probe, size_of
from search.run.trial_execution import execution_of, threads_of
from search.run.worker import events
from search.study_parts import Run
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.store import Store
from tests.search.run.jobs import job as one_thread_job
from trainers.execution import Execution
from trainers.fit import EpochResult
from trainers.latency import torch_threads

TASK = Task(channels=1, height=8, width=8, classes=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    store.add_study("s", {}, "", {})
    return store


def job(folder: Path, most: int = 4, **values: object) -> Job:
    """One whose format is given and whose threads are not."""
    return replace(one_thread_job(folder, **values), threads=None, most_threads=most, device="cpu")


@dataclass
class FakeProbe(Probe):
    """Finds 2 threads for everything, on this device; or is taken down by all formats."""

    on: str = "cpu"
    dies: bool = False
    asked: int = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def device(self, asked: str) -> str:
        return self.on

    def device_name(self, device: str) -> str:
        return device

    def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
        self.asked += 1
        if self.dies:
            raise CrashedError(Execution(device="cpu", dtype=job.precision))
        return Execution(device="cpu", dtype="bfloat16", threads=2)

    def formats(self, store: Store) -> NumberFormats:
        return NumberFormats(
            store.formats, "s", lambda: TASK, self.said.append, self, self.said.append
        )


def test_threads_are_measured_once_a_size_also_where_the_format_is_given(
    store: Store, tmp_path: Path
) -> None:
    probe = FakeProbe()
    first = probe.formats(store).of(job(tmp_path))
    assert first.execution is not None
    assert first.execution["threads"] == 2
    again = FakeProbe()
    assert again.formats(store).of(job(tmp_path, target=0.3)).execution == first.execution
    assert (probe.asked, again.asked) == (1, 0)
    (said,) = probe.said
    assert said.startswith(
        "measuring the number of threads, once for each size: gated_resnet resnet8 "
    )
    probe.formats(store).of(job(tmp_path, most=8))
    assert probe.asked == 2, "with more cores for each there is more to choose from"


def test_format_and_threads_are_measured_together(store: Store, tmp_path: Path) -> None:
    probe = FakeProbe()
    found = probe.formats(store)
    found.of(job(tmp_path))
    of_auto = found.of(replace(job(tmp_path), precision="auto"))
    assert probe.asked == 2, "another precision is asked for"
    assert of_auto.execution == Execution(dtype="bfloat16", threads=2).as_dict()
    assert probe.said[1].startswith("measuring the fastest number format and number of threads, ")


@pytest.mark.parametrize("case", ["file", "one core", "gpu", "frozen"])
def test_where_there_is_no_choice_nothing_is_measured(
    store: Store, tmp_path: Path, case: str
) -> None:
    probe = FakeProbe(on="cuda" if case == "gpu" else "cpu")
    one = {
        "file": one_thread_job(tmp_path),
        "one core": job(tmp_path, most=1),
        "gpu": job(tmp_path),
        "frozen": replace(job(tmp_path), params={"trunk": "frozen"}),
    }[case]
    assert probe.formats(store).of(one) is one
    assert probe.asked == 0


def test_a_network_that_takes_the_probe_down_trains_with_all_threads(
    store: Store, tmp_path: Path
) -> None:
    probe = FakeProbe(dies=True)
    found = probe.formats(store).of(job(tmp_path)).execution
    assert found == Execution(device="cpu", dtype="float32", threads=0).as_dict()
    assert probe.asked == 2, "once might be the fault of another process"


def test_the_probe_measures_threads_first_and_the_format_with_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_threads: list[int] = []

    def fastest_format(*_: object, **__: object) -> Execution:
        with_threads.append(torch.get_num_threads())
        return Execution(dtype="bfloat16")

    monkeypatch.setattr(module, "measured_threads", lambda *of, trying: of[3] - 1)
    monkeypatch.setattr(module, "measured", fastest_format)
    one = job(tmp_path, most=3)
    found = module._fastest(replace(one, precision="auto"), TASK, (), lambda _: None)
    assert found == Execution(dtype="bfloat16", threads=2)
    assert with_threads == [2]
    assert module._fastest(one, TASK, (), lambda _: None) == Execution(threads=2)
    assert with_threads == [2], "the format is given"


def test_sizes_tell_how_their_threads_are_found(tmp_path: Path) -> None:
    assert "up to 4 threads" in size_of(job(tmp_path), TASK)
    assert ", 1 threads" in size_of(one_thread_job(tmp_path), TASK)
    assert "up to" not in size_of(job(tmp_path), TASK, "cuda")


@pytest.mark.parametrize(
    ("run", "slots", "expected"),
    [
        (Run(), 1, 16),
        (Run(), 4, 4),
        (Run(gpus_per_trial=2), 2, 4),
        (Run(), 64, 1),
        (Run(threads=3), 4, 0),
        (Run(engine="ray", cpus_per_trial=6), 64, 6),
    ],
)
def test_trainings_at_once_choose_among_their_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, run: Run, slots: int, expected: int
) -> None:
    monkeypatch.setattr("search.run.jobs.cores", lambda: 16)
    monkeypatch.setattr("search.run.jobs.cores_alone", lambda: 16)
    assert most_threads_for(run, slots) == expected


def threads_in_epochs(of: Job) -> list[int]:
    """PyTorch's threads in every epoch of a training; as before once it is over."""
    found = []
    with torch_threads(3):
        for event in events(of):
            if isinstance(event, EpochResult):
                found.append(torch.get_num_threads())
            last = event
        assert torch.get_num_threads() == 3
    assert isinstance(last, Outcome), last
    return found


@pytest.mark.slow
def test_a_training_that_goes_on_has_the_threads_that_it_had(tmp_path: Path) -> None:
    one = replace(job(tmp_path), execution=Execution(threads=1).as_dict())
    assert threads_in_epochs(one) == [1, 1]
    candidate = Candidate.of(family(one.family), one.params, one.epochs)
    net, slot = candidate.build(TASK, 0), Slot.of(one, candidate)
    saved = slot.load()
    assert saved is not None
    assert saved[1]["execution"]["threads"] == 1
    other = replace(one, execution=Execution(threads=2).as_dict())
    assert threads_of(other, execution_of(other, net, slot)) == 1, "those of its checkpoint"
    told = replace(one, threads=5, most_threads=0)
    assert threads_of(told, execution_of(told, net, slot)) == 5, "the file says so"
    new = replace(other, key="s/search-0009")
    assert execution_of(new, net, Slot.of(new, candidate)).threads == 2


def test_a_machine_with_fewer_cores_is_not_given_more_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.run.trial_execution.cores", lambda: 2)
    assert threads_of(job(tmp_path), Execution(threads=16)) == 2
    assert threads_of(replace(job(tmp_path), threads=5), Execution()) == 5
