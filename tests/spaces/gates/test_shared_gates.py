"""Gates that share a network: what an LSTM carries along the blocks, what a policy network knows beforehand.

Shapes: B images, U units of a gate, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spaces.contract.knobs import Knobs
from spaces.contract.policies import AlwaysOn, Decision, Threshold
from spaces.contract.task import Task
from spaces.deploy.ship import ship
from spaces.families.gated_resnet import GatedResNet
from spaces.gates.shared_gates import PolicyNet, RecurrentGate

Build = Callable[..., GatedResNet]
Draw = Callable[..., Tensor]
HIDDEN = 8


def probabilities(found: tuple[Decision, ...]) -> list[Tensor]:
    return [d.p_BU for d in found if d.p_BU is not None]


def test_the_recurrent_gate_is_an_lstm_cell() -> None:
    torch.manual_seed(0)
    ours, theirs = RecurrentGate(HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.read.weight)
        theirs.bias_ih.copy_(ours.read.bias)
        theirs.weight_hh.copy_(ours.recalled.weight)
        theirs.bias_hh.zero_()
    x, hidden, cell = torch.randn(3, 5, HIDDEN)
    for one, other in zip(ours(x, hidden, cell), theirs(x, (hidden, cell)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_recurrent_gate_knows_what_the_gates_before_it_saw(resnet: Build, images: Draw) -> None:
    net, x = (
        resnet(gate="lstm", gate_source="stem", gate_hidden=HIDDEN),
        images(6),
    )  # all gates read the same features
    before = probabilities(net(x, Threshold()).decisions)
    with torch.no_grad():
        trunk = net.get_submodule("gate_heads.2.trunk.0")
        assert isinstance(trunk, nn.Linear)
        trunk.bias.add_(1)
    after = probabilities(net(x, Threshold()).decisions)
    changed = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [False, False, True, True, True, True]


def test_a_settled_recurrent_gate_is_not_asked_and_leaves_the_state_as_it_was(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(gate="lstm", gate_source="stem", gate_hidden=HIDDEN), images(6)
    assert not net.settles_exactly
    shorter = probabilities(net(x, Threshold(fixed={"block0.layer": (1.0,)})).decisions)
    with torch.no_grad():
        for parameter in net.get_submodule("gate_heads.0").parameters():
            parameter.fill_(9.0)
    again = probabilities(net(x, Threshold(fixed={"block0.layer": (1.0,)})).decisions)
    assert all(torch.equal(one, other) for one, other in zip(shorter, again, strict=True))


def test_a_recurrent_gate_costs_its_projection_the_lstms_step_and_its_logit(
    resnet: Build, images: Draw
) -> None:
    net = resnet(backbone="resnet8", width=1.0, gate="lstm", gate_hidden=HIDDEN)
    gates = sum(channels * HIDDEN + 8 * HIDDEN**2 + HIDDEN for channels in (16, 16, 32))
    assert net(images(1), Threshold(tau=0.0)).macs_B.item() == net.plain_macs + gates


def test_a_recurrent_gate_decides_about_whole_blocks_only(resnet: Build) -> None:
    with pytest.raises(
        ValueError, match=r"^gate: lstm decides about whole blocks, not with granularity joint;"
    ):
        resnet(gate="lstm", granularity="joint")


def test_a_policy_network_runs_once_and_its_decisions_hang_on_the_image_alone(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(gate="policy_net", granularity="joint", gate_hidden=HIDDEN), images(6)
    assert isinstance(net.gate_net, PolicyNet)
    calls: list[int] = []
    net.gate_net.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    before = net(x, Threshold())
    assert calls == [6]
    with torch.no_grad():
        for block in net.blocks:
            for parameter in block.parameters():
                parameter.mul_(1.5)
    after = net(x, Threshold())
    assert not torch.equal(before.logits_BC, after.logits_BC)
    for one, other in zip(before.decisions, after.decisions, strict=True):
        assert torch.equal(one.z_BU, other.z_BU)


def test_a_policy_network_costs_nothing_where_every_gate_is_settled(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(backbone="resnet8", width=1.0, gate="policy_net", gate_hidden=16), images(1)
    fixed = {gate.name: (1.0,) for gate in net.gates}
    for policy in (AlwaysOn(), Threshold(fixed=fixed)):
        assert net(x, policy).macs_B.item() == net.plain_macs
        assert net.unneeded(policy) == ["gate_net", *(f"gate_heads.{i}" for i in range(3))]
    assert net.unneeded(Threshold()) == []
    # of 16 filters it is a ResNet-8 without its head, and every gate reads 64 features
    logits = 3 * 64
    assert (
        net(x, Threshold(tau=0.0)).macs_B.item()
        == net.plain_macs + net.plain_macs - 64 * 5 + logits
    )


def test_a_policy_network_looks_at_large_images_from_afar() -> None:
    small, large = (
        PolicyNet(16, Task(channels=3, height=side, width=side, classes=2)) for side in (32, 224)
    )
    assert large.own_macs == small.own_macs
    with torch.no_grad():
        large.load_state_dict(small.state_dict())
        x = torch.randn(2, 3, 32, 32)
        whole = x.repeat_interleave(7, 2).repeat_interleave(7, 3)
        torch.testing.assert_close(large.eval()(whole), small.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", ["lstm", "policy_net", "ffgate_1"])
def test_shipped_networks_answer_as_trained_and_leave_behind_what_nobody_asks(
    resnet: Build, images: Draw, gate: str
) -> None:
    net, x = resnet(gate=gate, gate_hidden=HIDDEN).float(), images(8).float()
    pixels = (
        x * torch.tensor(net.task.std)[:, None, None] + torch.tensor(net.task.mean)[:, None, None]
    )
    rates: dict[str, Any] = {g.name: (0.5,) for g in net.gates}
    with torch.no_grad():
        trained = net(x, Threshold())
        shipped = ship(net, Knobs(), rates)
        logits, macs_B = shipped.run(pixels)
        torch.testing.assert_close(logits, trained.logits_BC, rtol=1e-4, atol=1e-4)
        assert torch.equal(macs_B, trained.macs_B)
    static = ship(net, Knobs(policy="always_on"), rates)
    assert not any(name.startswith(("net.gate_", "gate_")) for name in static.state_dict())
