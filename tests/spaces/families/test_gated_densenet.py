"""The gated DenseNet-BC: published sizes, closed layers that leave zeros, exits at the ends of its blocks.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.exit_places import Place
from spaces.contract.net import DynamicNet, Plan
from spaces.contract.policies import AlwaysOn, Threshold
from spaces.contract.task import Task
from spaces.exits.exit_gates import ExitGate
from spaces.families.gated_densenet import DenseNet, GatedDenseNet, GatedDenseNetConfig
from tests.spaces.gated import Told, builder

CIFAR = Task(channels=3, height=32, width=32, classes=10)
Build = Callable[..., GatedDenseNet]
Draw = Callable[..., Tensor]


@pytest.fixture
def densenet(scramble: Callable[..., DynamicNet]) -> Build:
    """A small scrambled net; keywords are those of its config, and `task`."""
    return builder(GatedDenseNet, GatedDenseNetConfig, {"depth": 22, "growth": 4}, scramble)


def published(**values: Any) -> GatedDenseNet:
    """DenseNet-BC with 100 layers and growth 12 without memory for weights."""
    with torch.device("meta"):
        return GatedDenseNet(GatedDenseNetConfig(**dict[str, Any]({"depth": 100}) | values), CIFAR)


def told(net: DynamicNet, count: int, **kinds: Tensor) -> Told:
    """Every gate open, but those of these kinds as told for each of `count` samples."""
    values = {g.name: kinds.get(g.kind, torch.ones(count)).float()[:, None] for g in net.gates}
    return Told(values=values)


def test_sizes_are_those_published() -> None:
    plain = published(gated=False)
    assert plain.plain_macs == 287_929_692
    assert sum(p.numel() for p in plain.parameters()) == 769_162
    assert len(plain.layers) == 3 * 16
    assert [(p.unit, p.channels, p.height) for p in plain.block_ends()] == [
        (15, 216, 32),
        (31, 300, 16),
    ]
    assert plain.fc.in_features == 342
    assert plain.sizes == [(32, 32), (16, 16), (8, 8)]
    assert published(exits="none").plain_macs == plain.plain_macs


def test_layers_of_the_first_block_cost_many_times_those_of_the_last() -> None:
    net = published()
    macs = [gate.macs for gate in net.gates if gate.kind == "layer"]
    assert macs[0] == 1024 * (24 * 48 + 9 * 48 * 12)
    assert macs[-1] == 64 * (330 * 48 + 9 * 48 * 12)
    assert GatedDenseNetConfig().weighting == "mac"


def test_a_gate_decides_by_default_and_the_published_one_costs_more_than_the_network() -> None:
    light, conv = published(), published(exit_gate="conv")
    assert [gate.kind for gate in light.gates[-2:]] == ["exit", "exit"]
    assert own_macs(light.exit_gates) == [216 * 16 + 16, 300 * 16 + 16]
    first, _ = own_macs(conv.exit_gates)
    assert first == 1024 * 9 * (216 * 128 + 128 * 128) + 128
    assert first > conv.plain_macs


def test_published_exits_read_squares_of_their_maps() -> None:
    net = published(exit_gate="published", msdnet_pool="squares")
    # 32x32 and 16x16 maps: gates average squares of 4, classifiers behind two strides of 2 squares of 2
    assert [gate.fc.in_features for gate in net.exit_gates] == [128 * 8 * 8, 128 * 4 * 4]
    assert [head.fc.in_features for head in net.exit_heads] == [128 * 4 * 4, 128 * 2 * 2]
    first, _ = own_macs(net.exit_gates)
    assert first == 1024 * 9 * (216 * 128 + 128 * 128) + 128 * 8 * 8


def test_a_published_gate_has_no_relu_and_means_over_squares_of_4() -> None:
    torch.manual_seed(0)
    gate = ExitGate("published", Place(0, 3, 8, 12), tokens=False).eval()
    u = torch.randn(2, 3, 8, 12)
    map_ = u
    for conv, norm in zip(gate.convs, gate.norms, strict=True):
        map_ = norm(conv(map_))
    squares = map_.view(2, 128, 2, 4, 3, 4).mean((3, 5)).flatten(1)
    torch.testing.assert_close(gate(u), gate.fc(squares))


def own_macs(modules: nn.ModuleList) -> list[int]:
    """What each exit's head or gate costs."""
    return [int(module.own_macs) for module in modules]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("decided", [False, True])
def test_closed_layers_leave_zeros_that_are_concatenated(
    densenet: Build, images: Draw, compact: bool, decided: bool
) -> None:
    net, x = densenet(exits="none"), images(4)
    u = net.stem(x)
    for block in range(3):
        u = F.pad(u, (0, 0, 0, 0, 0, 3 * 4))
        u = net.transition(block)(u) if block < 2 else F.relu(net.norm(u))
    policy = (
        Threshold(tau=1.0)
        if decided
        else Threshold(fixed={gate.name: (0.0,) for gate in net.gates})
    )
    output = net(x, policy, compact=compact)
    assert torch.equal(output.logits_BC, net.head(u))
    ends = net.stem_macs() + net.transition_macs(0) + net.transition_macs(1) + net.head_macs
    gates = (
        sum(layer.conv1.in_channels * 16 + 16 for layer in map(net.layer, range(9)))
        if decided
        else 0
    )
    assert output.macs_B.tolist() == [ends + gates] * 4


def test_layers_run_for_open_samples_only(densenet: Build, images: Draw) -> None:
    net, x = densenet(exits="none"), images(8)
    seen: dict[int, list[int]] = {}
    for index in range(len(net.layers)):
        for conv in (net.layer(index).conv1, net.layer(index).conv2):
            conv.register_forward_hook(
                lambda _m, args, _o, i=index: seen.setdefault(i, []).append(len(args[0]))
            )
    counts = [0, 3, 8, 1, 0, 5, 8, 2, 7]
    values = {g.name: (torch.arange(8) < counts[g.block]).float()[:, None] for g in net.gates}
    masked = net(x, Told(values=values))
    assert all(calls == [8, 8] for calls in seen.values())
    seen.clear()
    compact = net(x, Told(values=values), compact=True)
    assert seen == {index: [count, count] for index, count in enumerate(counts) if count}
    torch.testing.assert_close(compact.logits_BC, masked.logits_BC, rtol=1e-10, atol=1e-10)


def test_macs_are_linear_in_open_layers(densenet: Build, images: Draw) -> None:
    net, x = densenet(exits="none"), images(1)
    saved = 0
    fixed = {gate.name: (1.0,) for gate in net.gates}
    for gate in net.gates:
        fixed[gate.name] = (0.0,)
        saved += net.layer_macs(gate.block)
        assert net(x, Threshold(fixed=fixed)).macs_B.item() == net.plain_macs - saved
        assert gate.macs == net.layer_macs(gate.block)


@pytest.mark.parametrize("exit_after", ["block", "transition"])
def test_who_leaves_is_answered_there_and_pays_no_further_layer(
    densenet: Build, images: Draw, exit_after: str
) -> None:
    net, x = densenet(exit_after=exit_after, gate="independent"), images(6)
    stay = torch.tensor([0.0, 1, 1, 0, 1, 1])
    values = told(net, 6, layer=torch.ones(6), exit=torch.ones(6)).values
    values["exit0.stay"] = stay[:, None]
    output = net(x, Told(values=values))
    assert output.exits is not None
    assert output.exits.index_B.tolist() == [0, 2, 2, 0, 2, 2]
    u = net.stem(x)
    for index in range(3):
        u = torch.cat([u, net.layer(index)(u)], 1)
    paid = net.stem_macs() + sum(net.layer_macs(i) for i in range(3))
    if exit_after == "transition":
        u, paid = net.transition(0)(u), paid + net.transition_macs(0)
    logits, _ = net.exit_heads[0](u)
    torch.testing.assert_close(output.logits_BC[[0, 3]], logits[[0, 3]], rtol=1e-12, atol=1e-12)
    (first, second), head = own_macs(net.exit_gates), own_macs(net.exit_heads)[0]
    assert output.macs_B[0].item() == paid + first + head
    assert output.macs_B[1].item() == net.plain_macs + first + second
    torch.testing.assert_close(net(x).logits_BC[[1, 2, 4, 5]], output.logits_BC[[1, 2, 4, 5]])


def test_layers_behind_an_exit_run_for_those_alone_who_stayed(
    densenet: Build, images: Draw
) -> None:
    net, x = densenet(), images(6)
    seen: list[int] = []
    for module in (net.layer(0), net.transition(0), net.layer(3), net.layer(6)):
        module.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    values = told(net, 6).values
    values["exit0.stay"][:2] = 0
    values["exit1.stay"][3:] = 0
    net(x, Told(values=values), compact=True)
    assert seen == [6, 4, 4, 1]
    seen.clear()
    net(x, told(net, 6, exit=torch.zeros(6)), compact=True)
    assert seen == [6]


def test_exits_behind_transitions_read_fewer_and_smaller_maps() -> None:
    net = published(exit_after="transition", exit_gate="conv")
    assert [(p.unit, p.channels, p.height) for p in net.transition_ends()] == [
        (15, 108, 16),
        (31, 150, 8),
    ]
    first, _ = own_macs(net.exit_gates)
    assert first == 256 * 9 * (108 * 128 + 128 * 128) + 128 < net.plain_macs


@pytest.mark.parametrize(
    ("leaving", "expected"),
    [(8, 0.25**2), (7, 0.125**2), (6, 0.0), (2, 0.0), (1, 0.125**2), (0, 0.25**2)],
)
def test_too_few_early_exits_are_punished_and_too_many_are_not(
    densenet: Build, images: Draw, leaving: int, expected: float
) -> None:
    net = densenet(exit_target=0.25, loss="none")
    values = told(net, 8, exit=torch.zeros(8)).values  # at the second exit all leave who are left
    values["exit0.stay"] = (torch.arange(8) >= leaving).float()[:, None]
    objective = net.objective(Plan(epochs=2, steps=2))
    terms = objective.losses(net(images(8), Told(values=values)), torch.zeros(8, dtype=torch.long))
    assert terms["exit_rates"].item() == pytest.approx(expected / 2)


def test_always_open_gates_are_not_asked(densenet: Build, images: Draw) -> None:
    net = densenet()
    for module in [*net.gate_heads.modules(), *net.exit_gates, *net.exit_heads]:
        module.register_forward_hook(lambda *_: pytest.fail("a settled gate was evaluated"))
    assert net(images(2), AlwaysOn()).macs_B.tolist() == [net.plain_macs] * 2
    net(images(2), AlwaysOn(), compact=True)


def test_forced_open_layers_have_no_gates(densenet: Build) -> None:
    for forced, ungated in (("none", set()), ("first", {0}), ("first_last", {0, 8})):
        assert {int(key) for key in densenet(forced_open=forced).gate_heads} == set(
            range(9)
        ) - ungated


def test_without_compression_transitions_keep_all_maps(densenet: Build) -> None:
    assert [p.channels for p in densenet(compression=1.0).transition_ends()] == [20, 32]
    assert [p.channels for p in densenet(compression=0.5).transition_ends()] == [10, 11]


def test_an_image_that_cannot_be_halved_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="DenseNet needs images of 4x4 at least, not 3x9"):
        DenseNet(GatedDenseNetConfig(), Task(channels=1, height=3, width=9, classes=2))
