"""The gated ResNet: what its gates guard, what they cost, what is left out when they close.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_resnet import PlainResNet, plain_logits
from spaces.backbones.resnet import Block, ResNetConfig
from spaces.contract.knobs import Knobs
from spaces.contract.policies import AlwaysOn, Sampled, Threshold
from spaces.contract.task import Task
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig
from tests.spaces.gated import Told

CIFAR = Task(channels=3, height=32, width=32, classes=10)
Build = Callable[..., GatedResNet]
Draw = Callable[..., Tensor]


def settled(net: GatedResNet, value: float, kind: str | None = None) -> Threshold:
    """All gates (of a kind) settled at a value, the others open."""
    fixed = {g.name: (value if kind in (None, g.kind) else 1.0,) * g.units for g in net.gates}
    return Threshold(fixed=fixed)


def blocks(net: GatedResNet) -> Iterator[Block]:
    for block in net.blocks:
        assert isinstance(block, Block)
        yield block


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("decided", [False, True])
def test_closed_blocks_leave_their_shortcut_and_the_relu(
    resnet: Build, images: Draw, shortcut: str, compact: bool, decided: bool
) -> None:
    net, x = resnet(shortcut=shortcut), images(5)
    policy = Threshold(tau=1.0) if decided else settled(net, 0.0)
    u = net.stem(x)
    for block in blocks(net):
        u = u if block.identity else F.relu(block.skip(u))
    assert torch.equal(net(x, policy, compact=compact).logits_BC, net.head(u))


def test_a_net_of_closed_identity_blocks_is_its_stem_and_downsampling(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(forced_open="downsample"), images(4)
    u = net.stem(x)
    for block in blocks(net):
        u = u if block.identity else block(u)
    assert torch.equal(net(x, Threshold(tau=1.0)).logits_BC, net.head(u))


@pytest.mark.parametrize("compact", [False, True])
def test_without_shortcuts_a_block_hands_on_what_its_open_filters_make(
    resnet: Build, images: Draw, compact: bool
) -> None:
    values = {"granularity": "channel", "channel_where": "outer", "outer_groups": 2}
    net, x = resnet(shortcut="none", **values), images(4)
    u = net.stem(x)
    for block in blocks(net):
        half = torch.ones(block.outputs)
        half[block.outputs // 2 :] = 0
        u = F.relu(half[:, None, None] * block.residual(u))
    policy = Threshold(fixed={gate.name: (1.0, 0.0) for gate in net.gates})
    out = net(x, policy, compact=compact)
    torch.testing.assert_close(out.logits_BC, net.head(u))
    second = sum(net.block_macs(i)[1] for i in range(len(net.blocks)))
    assert out.macs_B.unique().item() == net.plain_macs - second / 2
    nothing = net(x, settled(net, 0.0), compact=compact)
    torch.testing.assert_close(nothing.logits_BC, net.fc.bias.expand(4, -1))
    assert nothing.macs_B.unique().item() == net.ends_macs()


@pytest.mark.parametrize("granularity", ["layer", "joint"])
def test_without_shortcuts_no_gate_skips_a_block(granularity: str) -> None:
    with pytest.raises(
        ValueError, match=r"^shortcut: none .* write granularity: channel beside it"
    ):
        GatedResNetConfig(shortcut="none", granularity=granularity)
    GatedResNetConfig(shortcut="none", granularity=granularity, gated=False)


@pytest.mark.parametrize(
    ("granularity", "gate_macs"),
    [("layer", 4_752), ("joint", 4_752 + 336 * 16)],
    ids=["layer", "joint"],
)
def test_resnet20_pays_the_published_overhead_for_its_gates(
    granularity: str, gate_macs: int
) -> None:
    config = GatedResNetConfig(
        backbone="resnet20", shortcut="A", granularity=granularity, channel_group=1
    )
    with torch.random.fork_rng():
        net = GatedResNet(config, CIFAR).eval()
    macs = net(torch.zeros(1, 3, 32, 32), Threshold(tau=0.0)).macs_B.item()
    assert macs == 40_551_040 + gate_macs
    assert net.plain_macs == 40_551_040


def test_two_logits_a_gate_cost_what_the_published_gates_do() -> None:
    with torch.random.fork_rng():
        net = GatedResNet(
            GatedResNetConfig(backbone="resnet20", shortcut="A", two_logit=True), CIFAR
        ).eval()
    assert net(torch.zeros(1, 3, 32, 32), Threshold(tau=0.0)).macs_B.item() == 40_555_936


def test_an_image_independent_gate_costs_nothing(resnet: Build, images: Draw) -> None:
    net = resnet(gate="independent", granularity="joint")
    assert net(images(1), Threshold(tau=0.0)).macs_B.item() == net.plain_macs


def test_a_channel_head_is_paid_only_where_its_block_runs(resnet: Build, images: Draw) -> None:
    net, x = resnet(granularity="joint", channel_group=1), images(1)
    closed = net(x, Threshold(tau=1.0)).macs_B.item()
    layer_gates = sum(b.conv1.in_channels * 16 + 16 for b in blocks(net))
    shortcuts = sum(net.block_macs(i)[2] for i in range(len(net.blocks)))
    assert closed == net.ends_macs() + shortcuts + layer_gates


def test_macs_are_linear_in_open_inner_filters_and_a_product_with_outer_ones(
    resnet: Build, images: Draw
) -> None:
    net = resnet(granularity="channel", channel_where="both", channel_group=1, outer_groups=8)
    first, second, _ = net.block_macs(2)
    gates = {gate.kind: gate for gate in net.gates if gate.block == 2}

    def cost(inner: int, outer: int) -> float:
        open_units = {"inner": inner, "outer": outer}
        fixed = {g.name: (1.0,) * g.units for g in net.gates}
        fixed |= {
            g.name: (1.0,) * open_units[k] + (0.0,) * (g.units - open_units[k])
            for k, g in gates.items()
        }
        return (
            net(images(1), Threshold(fixed=fixed)).macs_B.item() - net.plain_macs + first + second
        )

    n, m = gates["inner"].units, gates["outer"].units
    for inner in range(n + 1):
        assert cost(inner, m) == (first + second) * inner // n
        assert cost(inner, 1) == first * inner // n + second * inner // (n * m)
        assert cost(inner, 0) == 0


def test_mean_macs_are_of_images_not_of_mean_rates(resnet: Build, images: Draw) -> None:
    net, x = resnet(backbone="resnet8", granularity="joint", channel_group=1), images(4)
    runs_B1 = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    values = {g.name: runs_B1.expand(-1, g.units) for g in net.gates}
    macs = net(x, Told(values=values)).macs_B
    full, none = (
        net(x[:1], Threshold(tau=0.0)).macs_B.item(),
        net(x[:1], Threshold(tau=1.0)).macs_B.item(),
    )
    assert macs.tolist() == [full, full, none, none]
    convs = sum(sum(net.block_macs(i)[:2]) for i in range(3))
    product_of_rates = net.plain_macs - convs + convs * 0.5 * 0.5
    assert macs.mean().item() - product_of_rates > 0.2 * convs


def test_macs_carry_a_gradient_to_the_gates_of_what_they_guard(resnet: Build, images: Draw) -> None:
    net = resnet(backbone="resnet8")
    values = {g.name: torch.ones(3, 1, dtype=torch.float64, requires_grad=True) for g in net.gates}
    net(images(3), Told(values=values)).macs_B.sum().backward()
    for gate in net.gates:
        gradient = values[gate.name].grad
        assert gradient is not None
        assert gradient.tolist() == [[gate.macs]] * 3
        assert gate.macs == sum(net.block_macs(gate.block)[:2])


@pytest.mark.parametrize("open_count", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("granularity", ["layer", "joint"])
def test_compact_equals_masked_for_any_number_of_open_samples(
    resnet: Build, images: Draw, open_count: int, granularity: str
) -> None:
    net, x = resnet(granularity=granularity), images(8)
    generator = torch.Generator().manual_seed(open_count)
    values = {}
    for gate in net.gates:
        if gate.kind == "layer":
            chosen = torch.randperm(8, generator=generator)[:open_count]
            values[gate.name] = torch.zeros(8, 1).index_fill(0, chosen, 1.0)
        else:
            values[gate.name] = (torch.rand(8, gate.units, generator=generator) > 0.5).float()
    masked, compact = net(x, Told(values=values)), net(x, Told(values=values), compact=True)
    torch.testing.assert_close(compact.logits_BC, masked.logits_BC, rtol=1e-10, atol=1e-10)
    assert torch.equal(compact.macs_B, masked.macs_B)


def test_convolutions_run_for_open_samples_only(resnet: Build, images: Draw) -> None:
    net, x = resnet(), images(8)
    seen: dict[str, list[int]] = {}
    for name, module in net.blocks.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _m, args, _o, n=name: seen.setdefault(n, []).append(len(args[0]))
            )
    counts = [0, 3, 8, 1, 0, 5]
    values = {g.name: (torch.arange(8) < counts[g.block]).float()[:, None] for g in net.gates}
    net(x, Told(values=values), compact=True)
    for index, count in enumerate(counts):
        for conv in ("conv1", "conv2"):
            assert seen.get(f"{index}.{conv}", []) == ([count] if count else [])
    assert seen["2.shortcut.0"] == seen["4.shortcut.0"] == [8]
    seen.clear()
    net(x, Told(values=values))
    assert all(calls == [8] for calls in seen.values())


def test_trunks_run_once_for_all_kinds_of_gates(resnet: Build, images: Draw) -> None:
    net = resnet(granularity="joint", channel_where="both")
    calls: list[str] = []
    for name, module in net.named_modules():
        if name.endswith("trunk"):
            module.register_forward_hook(lambda _m, _a, _o, n=name: calls.append(n))
    for compact in (False, True):
        calls.clear()
        net(images(8), Threshold(), compact=compact)
        assert sorted(calls) == [f"gate_heads.{i}.trunk" for i in range(len(net.blocks))]


def test_no_gate_is_evaluated_when_all_are_settled(resnet: Build, images: Draw) -> None:
    net = resnet(granularity="joint")
    for name, module in net.named_modules():
        if name.endswith("trunk"):
            module.register_forward_hook(lambda *_: pytest.fail("a settled gate was evaluated"))
    for policy in (AlwaysOn(), settled(net, 1.0), settled(net, 0.0)):
        net(images(2), policy)
        net(images(2), policy, compact=True)


@pytest.mark.parametrize("gate", ["dependent", "independent"])
@pytest.mark.parametrize("granularity", ["layer", "channel", "joint"])
def test_raising_the_threshold_never_costs_more(
    resnet: Build, images: Draw, gate: str, granularity: str
) -> None:
    net, x = resnet(gate=gate, granularity=granularity, gate_source="stem"), images(16)
    outputs = [net(x, Threshold(tau=tau / 10)) for tau in range(11)]
    for lower, higher in pairwise(outputs):
        assert (higher.macs_B <= lower.macs_B).all()
        for one, other in zip(higher.decisions, lower.decisions, strict=True):
            assert (one.open_BU <= other.open_BU).all()
    assert (outputs[-1].macs_B < outputs[0].macs_B).all()


def test_decisions_read_the_stem_alone_when_told_so(resnet: Build, images: Draw) -> None:
    net, x = resnet(gate_source="stem"), images(9)
    free = [d.p_BU for d in net(x, Threshold()).decisions]
    other = [d.p_BU for d in net(x, Threshold(tau=0.99)).decisions]
    assert all(torch.equal(a, b) for a, b in zip(free, other, strict=True))


def test_an_image_independent_gate_has_one_probability_and_noise_for_each_image(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(gate="independent"), images(64)
    output = net.run(x, Knobs(policy="stochastic"))
    for decision in output.decisions:
        assert decision.p_BU is not None
        assert decision.p_BU.shape == (1, 1)
        assert decision.z_BU.shape == (64, 1)
    assert any(0 < d.z_BU.mean() < 1 for d in output.decisions)
    assert all(len(d.z_BU) == 1 for d in net(x, Threshold()).decisions)


@pytest.mark.parametrize(
    ("forced", "ungated"),
    [("none", set()), ("first", {0}), ("first_last", {0, 5}), ("downsample", {2, 4})],
)
def test_forced_open_blocks_have_no_gates(resnet: Build, forced: str, ungated: set[int]) -> None:
    net = resnet(forced_open=forced, granularity="joint")
    assert set(range(6)) - {gate.block for gate in net.gates} == ungated
    assert {int(key) for key in net.gate_heads} == set(range(6)) - ungated


def test_weights_go_to_the_baseline_and_back(resnet: Build, images: Draw) -> None:
    net, x = resnet(granularity="joint"), images(3)
    plain = PlainResNet(ResNetConfig(backbone="resnet14", width=0.5), net.task).double().eval()
    left = plain.load_state_dict(net.state_dict(), strict=False)
    assert left.missing_keys == []
    assert left.unexpected_keys
    assert all(key.startswith("gate_heads.") for key in left.unexpected_keys)
    assert torch.equal(plain(x), net(x).logits_BC)
    back = net.load_state_dict(plain.state_dict(), strict=False)
    assert back.unexpected_keys == []
    assert {name for name, _ in net.gate_heads.named_parameters(prefix="gate_heads")} <= set(
        back.missing_keys
    )
    assert set(back.missing_keys) <= set(left.unexpected_keys)


def test_the_same_seed_gives_the_backbone_of_the_baseline() -> None:
    nets = []
    for gated in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            nets.append(
                GatedResNet(GatedResNetConfig(backbone="resnet8", width=0.25, gated=gated), CIFAR)
            )
    weights = dict(nets[0].named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in nets[1].named_parameters())
    assert nets[1].gates == ()


def test_a_draw_with_all_units_far_open_is_the_baseline_to_the_bit(
    resnet: Build, images: Draw
) -> None:
    net, x = resnet(granularity="joint", channel_where="both"), images(4)
    with torch.no_grad():
        for name, parameter in net.gate_heads.named_parameters():
            if ".heads." in name:
                parameter.fill_(100.0 if name.endswith("bias") else 0.0)
    policy = Sampled(seed=0, step=0, ids_B=torch.arange(4), units=net.total_units())
    for training in (False, True):
        assert torch.equal(net.train(training)(x, policy).logits_BC, plain_logits(net, x))


def test_compact_execution_runs_under_autocast(resnet: Build, images: Draw) -> None:
    net = resnet(granularity="joint", channel_where="both").float()
    x = images(12).float()
    values = {g.name: (torch.rand(12, g.units) > 0.4).float() for g in net.gates}
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        masked, compact = net(x, Told(values=values)), net(x, Told(values=values), compact=True)
    scale = masked.logits_BC.abs().max().item()
    assert (masked.logits_BC - compact.logits_BC).abs().max().item() < 0.05 * scale
    assert torch.equal(masked.macs_B, compact.macs_B)


def test_a_config_takes_all_its_dimensions_as_keywords() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        GatedResNetConfig(**dict[str, Any](depth=3))
