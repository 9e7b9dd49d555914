"""Number formats: measured once a size in a process of its own, stored, and remembered where they crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import search.run.gpu_needs as needs_module
import search.run.number_formats as module
from search.run.giving_up import HopelessError
from search.run.job import Job
from search.run.number_formats import CrashedError, NumberFormats, Probe, size_of
from search.run.trial_execution import execution_of
from spaces.contract.family import Candidate
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.store import Store
from tests.search.run.jobs import job as float32_job
from trainers.execution import Execution

TASK = Task(channels=1, height=8, width=8, classes=10)
PLAIN, FAST = Execution(), Execution(dtype="bfloat16")
LAST = Execution(dtype="bfloat16", channels_last=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    for name in ("s", "other"):
        store.add_study(name, {}, "", {})
    return store


def job(folder: Path, **values: object) -> Job:
    return replace(float32_job(folder, **values), precision="auto", device="cpu")


@dataclass
class FakeProbe(Probe):
    """Takes the last format that is left; those in `crash` take it down."""

    crash: Sequence[Execution] = ()
    asked: list[Sequence[Execution]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
        self.asked.append(list(without))
        left = [one for one in (PLAIN, FAST, LAST) if one not in without]
        if left[-1] in self.crash:
            raise CrashedError(left[-1])
        return left[-1]


def formats(store: Store, probe: Probe, study: str = "s") -> tuple[NumberFormats, list[str]]:
    lines: list[str] = []
    return NumberFormats(store.formats, study, lambda: TASK, lines.append, probe), lines


def test_a_size_is_measured_once_and_every_later_session_trains_in_the_same_format(
    store: Store, tmp_path: Path
) -> None:
    probe = FakeProbe()
    first = formats(store, probe)[0].of(job(tmp_path))
    assert first.execution == LAST.as_dict()
    again = formats(store, probe)[0]
    assert again.of(job(tmp_path, target=0.3)).execution == LAST.as_dict(), "of equal size"
    assert len(probe.asked) == 1
    again.of(job(tmp_path, batch=64))
    assert len(probe.asked) == 2, "another batch is another size"


def test_a_format_that_was_asked_for_is_not_measured(store: Store, tmp_path: Path) -> None:
    probe = FakeProbe()
    one = float32_job(tmp_path)
    assert formats(store, probe)[0].of(one) is one
    assert probe.asked == []


def test_what_is_measured_is_said_once_for_each_size(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    found = NumberFormats(
        store.formats, "s", lambda: TASK, lambda line: None, FakeProbe(), doing=said.append
    )
    for _ in range(2):
        found.of(job(tmp_path))
    (line,) = said
    assert line.startswith("measuring the fastest number format, once for each size: ")
    assert "resnet8" in line


def test_a_format_that_crashes_is_left_out_here_in_every_study_and_one_line_says_so(
    store: Store, tmp_path: Path
) -> None:
    probe = FakeProbe(crash=[LAST])
    found, lines = formats(store, probe)
    assert found.of(job(tmp_path)).execution == FAST.as_dict()
    assert lines == [
        "torch crashed with bfloat16 and channels_last at this size; it is not used here again"
    ]
    formats(store, probe, "other")[0].of(job(tmp_path))
    assert probe.asked == [[], [], [LAST], [LAST]], "it has crashed twice"


def test_where_every_format_crashes_a_training_is_tried_in_plain_float32(
    store: Store, tmp_path: Path
) -> None:
    found, lines = formats(store, FakeProbe(crash=[PLAIN, FAST, LAST]))
    assert found.of(job(tmp_path)).execution == PLAIN.as_dict()
    assert len(lines) == 3


def dies_with_channels_last(pipe: Connection) -> None:
    """A probe whose process is killed by a format that is not left out."""
    while True:
        _, _, without = pipe.recv()
        pipe.send((LAST, False))
        if LAST not in without:
            os.kill(os.getpid(), signal.SIGSEGV)
        pipe.send((FAST, True))


@pytest.mark.slow
def test_a_native_crash_of_the_probe_names_the_format_and_does_not_reach_this_process(
    store: Store, tmp_path: Path
) -> None:
    found, lines = formats(store, Probe(dies_with_channels_last))
    try:
        assert found.of(job(tmp_path)).execution == FAST.as_dict()
    finally:
        found.close()
    assert len(lines) == 1
    (crashed,) = store.formats.crashed(found.probe.device_name("cpu"), size_of(job(tmp_path), TASK))
    assert crashed == LAST.as_dict()


def test_one_crash_may_be_the_fault_of_another_process_and_says_nothing_of_a_format(
    store: Store, tmp_path: Path
) -> None:
    class Once(FakeProbe):
        def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
            self.crash = () if self.asked else (LAST,)
            return super().fastest(job, task, without)

    found, lines = formats(store, Once())
    assert found.of(job(tmp_path)).execution == LAST.as_dict()
    assert not lines


def tells_its_name_the_second_time(pipe: Connection) -> None:
    """Ends without a word, unless it has done so in this folder before."""
    folder = Path(pipe.recv())
    if (folder / "here").exists():
        pipe.send("a GPU")
    (folder / "here").touch()


@pytest.mark.slow
def test_the_kind_of_a_device_is_asked_again_where_the_process_ends(tmp_path: Path) -> None:
    probe = Probe(tells_its_name_the_second_time)
    try:
        assert probe.device_name(str(tmp_path)) == "a GPU"
        with pytest.raises(
            HopelessError, match="measures networks on /none ends, or does not answ"
        ):
            probe.device_name("/none")
    finally:
        probe.close()


@pytest.mark.parametrize("error", ["CUDA error: unspecified launch failure", "cuDNN error: no"])
def test_a_process_that_cuda_does_no_more_in_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    raised: list[Exception] = [RuntimeError(error), RuntimeError("CUDA error: out of memory")]

    def peak_bytes(job: Job, device: str) -> int:
        raise raised.pop(0)

    monkeypatch.setattr(needs_module, "peak_bytes", peak_bytes)
    with pytest.raises(SystemExit):
        module._peak(job(tmp_path))
    assert module._peak(job(tmp_path)) is None


@pytest.mark.slow
def test_a_format_is_measured_in_another_process(store: Store, tmp_path: Path) -> None:
    found, lines = formats(store, Probe())
    try:
        chosen = found.of(job(tmp_path)).execution
    finally:
        found.close()
    assert chosen is not None
    assert chosen["device"] == "cpu"
    assert not lines


def test_a_worker_trains_in_the_format_that_its_job_says(tmp_path: Path) -> None:
    class NoCheckpoint:
        def load(self) -> None:
            return None

    def execution(one: Job, width: float) -> Execution:
        candidate = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": width}, 1)
        return execution_of(one, candidate.build(TASK, 0), NoCheckpoint())

    one = replace(job(tmp_path), execution=LAST.as_dict())
    assert execution(one, 1.0) == LAST
    assert execution(one, 0.25) == FAST, "a layout that corrupts memory is never used"
    assert execution(job(tmp_path), 1.0) == PLAIN, "nothing is measured in the process that trains"


def test_formats_that_a_library_computes_wrongly_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half, last = (Execution(dtype="bfloat16", channels_last=one) for one in (False, True))
    monkeypatch.setattr(module, "options", lambda net, device: (Execution(), half, last))
    monkeypatch.setattr(
        module, "wrong_operations", lambda net, execution, images: ["x"] * (execution == half)
    )
    task = Task(channels=1, height=8, width=8, classes=3)
    net = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": 0.25}, 1).build(
        task, 0
    )
    tried: list[Execution] = []
    assert module._wrong(net, Recipe(batch=4), "cpu", (), tried.append) == [half]
    assert tried == [half, last]
