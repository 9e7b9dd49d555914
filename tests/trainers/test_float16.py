"""Training in float16: gradients are scaled, a step that overflows is left out, and a training that continues knows it.

The trainer takes it on a CPU too, which is how it is tested; a study takes it on a GPU alone.
"""

from __future__ import annotations

import copy

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.data.splits import DataSpec, ImageData, load
from trainers.execution import Execution, check_precision
from trainers.training import Training

FLOAT16 = Execution(dtype="float16")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=64))


def training(data: ImageData, execution: Execution = FLOAT16) -> Training:
    values = {
        "layers": 2,
        "dim": 16,
        "head_dim": 8,
        "patch": 4,
        "batch": 32,
        "optimizer": "sgd",
        "lr": 0.1,
    }
    candidate = Candidate.of(family("skip_vit"), values, 2)
    net = candidate.build(Task(channels=1, height=8, width=8, classes=10), 0)
    return Training(execution.placed(net), data, candidate.recipe, 0, execution)


def test_scaled_steps_are_those_of_float32_but_for_rounding(digits: ImageData) -> None:
    half, single = training(digits), training(digits, Execution())
    assert half.scaler.is_enabled()
    assert not single.scaler.is_enabled()
    before = copy.deepcopy(half.net.state_dict())
    for one in (half, single):
        one.epoch(0)
    found, right = half.net.state_dict(), single.net.state_dict()
    step = sum(float((right[name] - start).square().sum()) for name, start in before.items())
    off = sum(float((right[name] - one).square().sum()) for name, one in found.items())
    assert off < 0.01 * step


def test_steps_whose_gradients_overflow_are_left_out_and_the_scale_falls(
    digits: ImageData,
) -> None:
    one = training(digits)
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 2.0**40})
    before = copy.deepcopy(one.net.state_dict())
    one.epoch(0)
    assert all(torch.equal(before[name], weight) for name, weight in one.net.named_parameters())
    assert one.scaler.get_scale() == 2.0 ** (40 - one.steps)
    again = training(digits)
    again.load(one.tensors(), one.state())
    assert again.scaler.get_scale() == one.scaler.get_scale(), "a checkpoint has the scale"


def test_float16_is_for_gpus() -> None:
    check_precision("float16", "cuda")
    check_precision("bfloat16", "cpu")
    with pytest.raises(
        ValueError, match=r"^run\.precision: float16: trains on a GPU, .* take auto"
    ):
        check_precision("float16", "cpu")
