"""A training that runs out of memory: alone, then with half the images at once, then failed with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.run.engine import InProcess
from search.run.giving_up import HopelessError
from search.run.job import Failure, Job, Outcome
from search.run.memory_tries import MemoryTries
from search.run.progress import Progress
from search.run.trial_run import execution_params
from storage.records import TrialRecord
from tests.search.run.bench import ALONE, Bench, outcome
from tests.search.run.jobs import drained, job, kinds
from trainers.execution import best_device
from trainers.fit import EpochResult
from trainers.memory import cap_gpu_memory, is_out_of_memory
from trainers.training import Training

TEXT = ALONE + "budget: {trials: 4, epochs: 3}\nspace: {gated_resnet: {batch: 64}}\n"
FULL = Failure("OutOfMemoryError: CUDA out of memory", 1, "trace", memory=True)


def epoch(number: int) -> EpochResult:
    return EpochResult(number, {"val/accuracy": 0.5, "val/macs": 1.0}, {})


def good(job: Job) -> list[Any]:
    return [epoch(1), outcome(0.5, 1e6 * (job.number + 1))]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: said.append(str(line)))
    return said


def test_one_that_shares_its_device_is_tried_alone_first(tmp_path: Path, lines: list[str]) -> None:
    bench = Bench(tmp_path, TEXT)

    def script(job: Job, attempt: int) -> list[Any]:
        return [FULL] if (job.number, attempt) == (1, 0) else good(job)

    bench.drive(script, slots=2, memory=MemoryTries(True, True))
    assert bench.states() == dict.fromkeys(range(4), "complete")
    assert bench.started().count(1) == 2
    assert [j.micro_batch for j in bench.jobs] == [0] * 5, "it trains as it was to train"
    assert (
        len([line for line in lines if "tried again alone, once the others have ended" in line])
        == 1
    )


def test_then_with_half_the_images_at_once_and_then_it_has_failed(
    tmp_path: Path, lines: list[str]
) -> None:
    bench = Bench(tmp_path, TEXT)

    def script(job: Job, attempt: int) -> list[Any]:
        return [FULL] if job.number == 1 else good(job)

    bench.drive(script, slots=2, memory=MemoryTries(True, True))
    assert [j.micro_batch for j in bench.jobs if j.number == 1] == [0, 0, 32]
    assert bench.states() == {0: "complete", 1: "failed", 2: "complete", 3: "complete"}
    (failure,) = bench.store.failures("s")
    assert failure.error == (
        "OutOfMemoryError: CUDA out of memory (also alone and with 32 images in memory at once)"
    )
    assert any("with 32 images in memory at once in place of 64" in line for line in lines)


def test_one_that_is_alone_anyway_trains_with_half_the_images_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)

    def script(job: Job, attempt: int) -> list[Any]:
        return [FULL] if job.number == 1 and not job.micro_batch else good(job)

    bench.drive(script, memory=MemoryTries(False, False))
    assert [j.micro_batch for j in bench.jobs if j.number == 1] == [0, 32]
    assert bench.states() == dict.fromkeys(range(4), "complete")


def test_nothing_starts_beside_one_that_has_to_be_alone(tmp_path: Path) -> None:
    bench, at_once = Bench(tmp_path, TEXT), []
    under_way: set[int] = set()

    def events(job: Job, attempt: int) -> Any:
        yield epoch(1)
        at_once.append((job.number, attempt, len(under_way)))
        under_way.discard(job.number)
        yield FULL if (job.number, attempt) == (0, 0) else outcome(0.5, 1e6 * (job.number + 1))

    def script(job: Job, attempt: int) -> Any:
        under_way.add(job.number)
        return events(job, attempt)

    bench.drive(script, slots=3, memory=MemoryTries(True, True))
    assert bench.states() == dict.fromkeys(range(4), "complete")
    assert [count for number, attempt, count in at_once if (number, attempt) == (0, 1)] == [1]


def test_so_many_failures_in_a_row_as_the_file_says_end_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT + "run: {max_failures: 2}\n")
    with pytest.raises(
        HopelessError, match="2 trials in a row failed, the last with: no such file"
    ):
        bench.drive(lambda job, attempt: [Failure("no such file", 1, "")])
    assert list(bench.states().values()) == ["failed", "failed"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            ),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_say_that_there_is_no_memory_left(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


@pytest.mark.parametrize(("gigabytes", "share"), [(20.0, 0.25), (200.0, 1.0)])
def test_a_training_takes_no_more_of_a_gpu_than_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: float, share: float
) -> None:
    bench = Bench(tmp_path, TEXT + f"run: {{gpu_memory_gigabytes: {gigabytes}}}\n")
    bench.drive(lambda job, attempt: good(job))
    asked, large = list[tuple[float, int]](), SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: large)
    # torch's own function looks at the device first
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda *one: asked.append(one), raising=False
    )
    most = bench.jobs[0].gpu_memory
    assert most == int(gigabytes * 1e9)
    for device in (best_device(), "cuda:1"):
        cap_gpu_memory(most, device)
    assert asked == [(share, 0), (share, 1)]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_trained_in_parts_with_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = Training._backward, []

    def small(self: Training, step: int, pixels: torch.Tensor, *others: Any) -> Any:
        if len(pixels) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen.append((step, len(pixels)))
        return whole(self, step, pixels, *others)

    monkeypatch.setattr(Training, "_backward", small)
    engine = InProcess()
    engine.submit(job(tmp_path))
    ((_, failure),) = drained(engine, 1)
    assert isinstance(failure, Failure)
    assert (failure.memory, failure.crashed) == (True, False)
    assert MemoryTries().told(job(tmp_path), failure) == failure
    engine.submit(replace(job(tmp_path), micro_batch=16))
    found = drained(engine, 1)
    assert kinds(found) == [EpochResult, EpochResult, Outcome]
    assert seen == [(step, 16) for step in range(6) for _ in range(2)], (
        "batches of 32, of 96 images"
    )
    assert isinstance(found[-1][1], Outcome)
    assert found[-1][1].execution["micro_batch"] == 16
    engine.submit(replace(job(tmp_path), reached=2))
    assert kinds(drained(engine, 1)) == [EpochResult, Outcome], "it goes on as its checkpoint says"


def test_mlflow_shows_images_at_once_where_they_are_fewer_than_the_recipe_says() -> None:
    values: dict[str, Any] = dict.fromkeys(TrialRecord.__dataclass_fields__)
    plain = {"device": "cpu", "dtype": "float32", "channels_last": False, "micro_batch": 0}
    shown = execution_params(TrialRecord(**values | {"result": {"execution": plain}}))
    assert shown == {f"execution.{n}": plain[n] for n in ("device", "dtype", "channels_last")}
    half = plain | {"micro_batch": 16}
    shown = execution_params(TrialRecord(**values | {"result": {"execution": half}}))
    assert shown["execution.micro_batch"] == 16
