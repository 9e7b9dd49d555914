"""A library that computes a step wrongly in 16 bits is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import families, family
from spaces.contract.task import Task
from trainers.execution import Execution, random_images
from trainers.wrong_results import wrong_operations

BFLOAT16 = Execution(dtype="bfloat16")
SMALL: dict[str, dict[str, object]] = {
    "gated_resnet": {"backbone": "resnet8", "width": 0.25, "granularity": "joint"},
    "multi_exit": {"backbone": "resnet18", "width": 0.125, "exits": "light"},
    "gated_densenet": {"depth": 22},
    "gated_mobilenet": {"width": 0.25},
    "timm": {"backbone": "mobilenetv2_050"},
    **{name: {"layers": 3, "dim": 32} for name in ("dense_vit", "skip_vit", "shuffled_vit")},
}


def made(name: str, **values: object) -> DynamicNet:
    task = Task(channels=3, height=16, width=16, classes=4)
    return Candidate.of(family(name), {**SMALL.get(name, {}), **values}, 1).build(task, 0)


class Broken(TorchDispatchMode):
    """A library whose bfloat16 results of one operation are those of another problem."""

    def __init__(self, operation: Callable[..., Any], place: int = 0) -> None:
        super().__init__()
        self.operation, self.place = operation, place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func != self.operation:
            return found
        results = list(found) if isinstance(found, tuple) else [found]
        one = results[self.place]
        if one is not None and one.dtype == torch.bfloat16:
            results[self.place] = one.flip(0)
        return tuple(results) if isinstance(found, tuple) else results[0]


@pytest.mark.parametrize("name", families())
def test_rounding_is_no_mistake(name: str) -> None:
    net = made(name)
    assert wrong_operations(net, BFLOAT16, random_images(net, 8, "cpu")) == []


@pytest.mark.parametrize(
    ("operation", "place", "word"),
    [
        (torch.ops.aten.convolution.default, 0, "aten.convolution.default of 8x3x16x16"),
        (torch.ops.aten.convolution_backward.default, 1, "aten.convolution_backward.default of"),
        (torch.ops.aten.addmm.default, 0, "aten.addmm.default of"),
    ],
)
def test_wrong_results_are_named_and_the_network_stays_as_it_is(
    operation: Callable[..., Any], place: int, word: str
) -> None:
    net = made("gated_resnet")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = random_images(net, 8, "cpu")
    with Broken(operation, place):
        found = wrong_operations(net, BFLOAT16, images)
        assert wrong_operations(net, Execution(), images) == []
    assert any(one.startswith(word) for one in found), found
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_gradients_of_exits_are_checked_too() -> None:
    """The last answer alone does not send any gradient through the head of an exit."""
    net = made("multi_exit")
    backward = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func == torch.ops.aten.convolution_backward.default:
                backward.add(tuple(args[2].shape))
            return func(*args, **(kwargs or {}))

    with Seen():
        wrong_operations(net, BFLOAT16, random_images(net, 8, "cpu"))
    heads = {
        tuple(one.weight.shape)
        for one in net.exit_heads.modules()
        if isinstance(one, torch.nn.Conv2d)
    }
    assert heads <= backward
