"""What is refused of studies with several GPUs a trial, and what their estimate counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from search.commands.gpu_check import check_gpus
from search.run.data import load_data, task_of
from search.run.local_processes import LocalProcesses, grouped
from search.run.speed import measured_speed
from search.spec import parse_study
from search.study_keys import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from trainers.data.splits import DataSpec
from trainers.execution import Execution
from trainers.fit import EpochResult


def spec(run: str, family: str = "dense_vit", space: str = "") -> StudySpec:
    text = f"study: s\ndata: digits\nfamilies: [{family}]\nrun: {{{run}}}\n{space}"
    return parse_study(text, "s.yml")


def refusal(one: StudySpec, workers: int = 1) -> str:
    with pytest.raises(ValueError, match=r"^run\.gpus_per_trial: ") as found:
        check_gpus(one, workers)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (0, "4 are asked for, and torch finds no GPU here; leave it out, or write `device: cpu`"),
        (1, "finds 1 GPU here; leave it out"),
        (2, "finds 2 GPUs here; write 2 or less"),
    ],
)
def test_more_gpus_than_there_are_are_refused(
    monkeypatch: pytest.MonkeyPatch, there: int, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert said in refusal(spec("gpus_per_trial: 4"))


def test_as_many_gpus_as_there_are_and_processes_on_the_cpu_are_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_gpus(spec("gpus_per_trial: 1"), 0)
    check_gpus(spec("gpus_per_trial: 2, device: cpu"), 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_gpus(spec("gpus_per_trial: 4"), 2)


def test_what_does_not_go_with_several_gpus_is_refused() -> None:
    cpu = "gpus_per_trial: 2, device: cpu"
    assert "give --workers 1 or more" in refusal(spec(cpu), workers=0)
    assert "does not go with run.compile" in refusal(spec(f"{cpu}, compile: true"))
    frozen = "init_from: a.safetensors\nspace: {multi_exit: {trunk: [frozen, finetuned]}}\n"
    assert "in seconds on one GPU" in refusal(spec(cpu, "multi_exit", frozen))


def test_each_worker_has_gpus_of_its_own_as_far_as_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert grouped(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert grouped(["3", "1"], 1) == ["3", "1"]
    assert grouped([], 2) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert LocalProcesses(2, gpus_per_trial=2)._gpus == ["4,5", "6,7"]


def test_an_estimate_divides_a_batch_and_its_time_among_the_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = []

    def fit(net: Any, data: Any, recipe: Any, **_: Any) -> Iterator[EpochResult]:
        batches.append(recipe.batch)
        yield EpochResult(1, {"train/images_per_second": 10.0}, {})

    monkeypatch.setattr("search.run.speed.fit", fit)
    for other in ("evaluate", "operating_points"):
        monkeypatch.setattr(f"search.run.speed.{other}", lambda *_, **__: None)
    data = DataSpec(source="digits", train_limit=96)
    candidate = Candidate.of(family("dense_vit"), {"layers": 2, "dim": 32, "batch": 32}, 1)
    one, two = (
        measured_speed(candidate, task_of(load_data(data)), data, Execution(), gpus)
        for gpus in (1, 2)
    )
    assert batches == [32, 16]
    assert one.epoch == pytest.approx(9.6, abs=0.2)
    assert two.epoch == pytest.approx(4.8, abs=0.2)
