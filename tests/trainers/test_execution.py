"""The execution is chosen by measuring."""

from __future__ import annotations

import pytest
import torch

import trainers.execution as module
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.execution import Execution, measured, options
from trainers.latency import latencies_ms


def made(width: float) -> DynamicNet:
    values = {"backbone": "resnet8", "width": width}
    return Candidate.of(family("gated_resnet"), values, 1).build(
        Task(channels=1, height=8, width=8, classes=3), 0
    )


@pytest.fixture
def net() -> DynamicNet:
    return made(0.5)


def test_channels_last_is_not_tried_on_cpu_where_torch_corrupts_memory() -> None:
    assert not any(execution.channels_last for execution in options(made(0.25), "cpu"))
    assert any(execution.channels_last for execution in options(made(0.25), "cuda"))


@pytest.mark.parametrize(("fast", "ratio", "chosen"), [(1, 0.5, True), (1, 0.95, False)])
def test_an_option_is_chosen_only_when_it_is_clearly_faster(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch, fast: int, ratio: float, chosen: bool
) -> None:
    known = options(net, "cpu")

    def seconds(_: object, execution: Execution, *__: object) -> float:
        return ratio if execution == known[fast] else 1.0

    monkeypatch.setattr(module, "_step_seconds", seconds)
    assert measured(net, Recipe(batch=16), "cpu") == known[fast if chosen else 0]


def test_measuring_leaves_the_network_as_it_was(net: DynamicNet) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    measured(net, Recipe(batch=16), "cpu")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_latencies_are_medians_side_by_side() -> None:
    slow, fast = (lambda x: [x @ x for _ in range(200)]), (lambda x: x)
    found = latencies_ms([slow, fast], [torch.rand(32, 32)], warm_up=1, repeats=5)
    assert found[0] > found[1] > 0
