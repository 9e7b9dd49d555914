"""A layer computed for the samples alone whose gate is open.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.net import Plan
from spaces.contract.policies import Threshold
from spaces.transformers.routed_vit import RoutedViT
from tests.spaces.transformers.vits import TASK, Draw, vit

SWITCH = "spaces.transformers.routed_vit.pays_on"
Ran = list[int]


def watched(net: RoutedViT) -> Ran:
    """How many samples each layer is given, as it runs."""
    ran: Ran = []
    for layer in net.layers:
        layer.register_forward_pre_hook(lambda _, given: ran.append(len(given[0])))
    return ran


def skipping(scramble: Callable[..., Any], **values: Any) -> RoutedViT:
    """A network whose oracles decide each way."""
    net: RoutedViT = scramble(vit("skip_vit", bias_init=0.0, dt_history="none", **values))
    with torch.no_grad():
        for oracle in net.oracles.values():
            oracle.head.weight.mul_(20)
    return net


def gradients(net: RoutedViT, x: Tensor) -> dict[str, Tensor | None]:
    objective = net.train().objective(Plan(epochs=4, steps=4))
    output = net(x, objective.policy(9, torch.arange(len(x))))
    terms = objective.losses(output, torch.arange(len(x)) % 5)
    net.zero_grad()
    torch.stack([term.double() for term in terms.values()]).sum().backward()
    return {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("grad", ["literal", "soft_scale"])
def test_gradients_of_gathered_samples_are_those_of_masked_ones(
    images: Draw, scramble: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, grad: str
) -> None:
    net, x = skipping(scramble, dt_grad=grad, loss="score_sq"), images(16, TASK)
    ran = watched(net)
    gathered = gradients(net, x)
    assert sum(ran) < 4 * 16, "nothing was skipped: nothing was tested"
    monkeypatch.setattr(SWITCH, lambda *_: False)
    ran.clear()
    masked = gradients(net, x)
    assert sum(ran) == 4 * 16
    assert any(found is not None and bool(found.any()) for found in gathered.values())
    for name, found in masked.items():
        torch.testing.assert_close(gathered[name], found, msg=name)


def test_oracles_that_learn_from_what_they_closed_need_it_computed(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    net = skipping(scramble, dt_grad="st")
    ran = watched(net)
    gradients(net, images(16, TASK))
    assert sum(ran) == 4 * 16


def test_a_validation_pass_computes_open_layers_alone(
    images: Draw, scramble: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = skipping(scramble), images(16, TASK)
    ran = watched(net)
    with torch.no_grad():
        output = net(x, Threshold())
        opened = sum(int(decision.open_BU.sum()) for decision in output.decisions)
        assert 0 < opened < 2 * 16
        assert sum(ran) == opened + 2 * 16, "first and last layer have no gate"
        monkeypatch.setattr(SWITCH, lambda *_: False)
        masked = net(x, Threshold())
    torch.testing.assert_close(output.logits_BC, masked.logits_BC)
    assert torch.equal(output.macs_B, masked.macs_B)


def test_a_layer_that_no_sample_opens_has_a_gradient_of_zero_as_when_masked(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    net = skipping(scramble, dt_grad="literal", loss="score_sq")
    with torch.no_grad():
        for oracle in net.oracles.values():
            oracle.head.bias.fill_(-1000.0)
    found = gradients(net, images(8, TASK))["layers.1.qkv.weight"]
    assert found is not None
    assert not found.any()


def test_stochastic_depth_computes_survivors_alone(images: Draw) -> None:
    net = vit("shuffled_vit", stochastic_depth=0.5, order_train="identity")
    ran = watched(net)
    gradients(net, images(32, TASK))
    assert sum(ran) < 4 * 32
