"""What a GPU would be asked to do, on tensors that say they are on one and hold nothing.

A training step and the passes of validation must not wait for the host: no number is read back, and at most one small
tensor is copied over in a step. A tensor that was left on the host fails here as it would there.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spaces.contract.exit_rules import ExitRule
from spaces.contract.net import DynamicNet, Plan
from spaces.contract.policies import AlwaysOn, Policy, Threshold
from spaces.transformers import layer_order
from tests.spaces.families.cases import CASES, Case

BATCH = 6


def some() -> Iterator[Case]:
    """Of each family the first network, and the first that was drawn."""
    seen = set()
    for case in CASES:
        key = case.candidate.family.name, "drawn" in case.name
        if key not in seen:
            seen.add(key)
            yield case


class Copies(TorchDispatchMode):
    """Counts the tensors that go to the GPU and those that come back; reading a number from one raises."""

    def __init__(self) -> None:
        super().__init__()
        self.there = self.back = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        made = call(*args, **(named or {}))
        given = _devices((args, named))
        if call._schema.name in ("aten::_to_copy", "aten::copy_"):
            self.there += given == {"cpu"} and _devices(made) == {"cuda"}
            self.there += given == {"cpu", "cuda"} and _devices(made) == {"cuda"}
        self.back += "cuda" in given and "cpu" in _devices(made)
        return made


def _devices(values: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}


def moved(net: nn.Module) -> None:
    """Put the network's tensors on the GPU; those that it holds elsewhere stay where they are."""
    for module in net.modules():
        for name, own in module._parameters.items():
            if own is not None:
                there = torch.empty(own.shape, dtype=own.dtype, device="cuda")
                module._parameters[name] = nn.Parameter(there, requires_grad=own.requires_grad)
        for name, kept in module._buffers.items():
            if kept is not None:
                module._buffers[name] = torch.empty(kept.shape, dtype=kept.dtype, device="cuda")


def policies(net: DynamicNet) -> list[Policy]:
    """How validation runs it."""
    found: list[Policy] = [AlwaysOn(), Threshold(tau=0.5)]
    if net.exit_count and not any(gate.kind == "exit" for gate in net.gates):
        found.append(AlwaysOn(exits=ExitRule(every=True)))
        found.append(AlwaysOn(exits=ExitRule(thresholds=(0.5,) * net.exit_count)))
    return found


@pytest.fixture
def drawn_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of layers is drawn with real numbers, for it decides what is run."""
    draw = layer_order.training_order

    def order(*asked: Any) -> tuple[int, ...] | None:
        with unset_fake_temporarily():
            return draw(*asked)

    monkeypatch.setattr(layer_order, "training_order", order)


@pytest.mark.usefixtures("drawn_on_the_host")
@pytest.mark.parametrize("case", list(some()), ids=lambda case: case.name)
def test_neither_training_nor_validation_waits_for_the_host(case: Case) -> None:
    net, task = case.net(), case.task
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved(net)
        images = torch.empty(BATCH, task.channels, task.height, task.width, device="cuda")
        labels, ids = (torch.zeros(BATCH, dtype=torch.long, device="cuda") for _ in range(2))
        objective = net.train().objective(Plan(epochs=2, steps=3))
        with Copies() as training:
            output = net(images, objective.policy(0, ids))
            losses = objective.losses(output, labels)
        assert all(loss.device.type == "cuda" for loss in losses.values())
        assert training.back == 0
        assert training.there <= 1
        net.eval()
        for policy in policies(net):
            with torch.no_grad(), Copies() as validation:
                answers = net(images, policy)
            assert answers.logits_BC.device.type == answers.macs_B.device.type == "cuda"
            assert (validation.there, validation.back) == (0, 0), policy
