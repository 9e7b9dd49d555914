"""The gated MobileNetV2: torchvision's names and numbers, what its gates guard, what closing them saves.

Shapes: B samples, U units of a gate, E expanded channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from spaces.backbones.mobilenet import Bottleneck, strides
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Threshold
from spaces.contract.task import Task
from spaces.families.gated_mobilenet import GatedMobileNet, GatedMobileNetConfig
from spaces.gates.block_execution import compact_residual
from tests.spaces.gated import SMALL, Told, builder

IMAGENET = Task(channels=3, height=224, width=224, classes=1000)
Build = Callable[..., GatedMobileNet]
Draw = Callable[..., Tensor]


@pytest.fixture
def mobilenet(scramble: Callable[..., DynamicNet]) -> Build:
    """A small scrambled net; keywords are those of its config, and `task`."""
    return builder(GatedMobileNet, GatedMobileNetConfig, {"width": 0.25, "depth": 0.5}, scramble)


def on_meta(task: Task, **values: Any) -> GatedMobileNet:
    """A net without memory for weights: for shapes and costs of full sizes."""
    with torch.device("meta"):
        return GatedMobileNet(GatedMobileNetConfig(**values), task)


@pytest.mark.parametrize(
    ("width", "macs"), [(0.5, 97_131_840), (1.0, 300_774_272), (1.4, 582_195_824)]
)
def test_names_and_shapes_are_those_of_torchvision_and_macs_those_published(
    width: float, macs: int
) -> None:
    plain = on_meta(IMAGENET, width=width, stem="imagenet", gated=False)
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width)
    ours_shapes = [(name, tensor.shape) for name, tensor in plain.state_dict().items()]
    assert ours_shapes == [(name, tensor.shape) for name, tensor in theirs.state_dict().items()]
    assert plain.plain_macs == macs


def test_weights_of_torchvision_load_and_give_its_logits(mobilenet: Build, images: Draw) -> None:
    task = Task(channels=3, height=40, width=64, classes=7)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = (
            torchvision.models.mobilenet_v2(weights=None, width_mult=0.25, num_classes=7)
            .double()
            .eval()
        )
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.uniform_(-0.5, 0.5)
                module.bias.data.uniform_(-0.5, 0.5)
    net = mobilenet(task, stem="imagenet", depth=1.0, granularity="joint")
    left = net.load_state_dict(theirs.state_dict(), strict=False)
    assert left.unexpected_keys == []
    assert all(key.startswith("gate_heads.") for key in left.missing_keys)
    x = images(2, task)
    torch.testing.assert_close(net(x).logits_BC, theirs(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "found", "last"),
    [
        (8, [1, 1, 1, 1, 1, 1, 2, 1], 4),
        (16, [1, 1, 1, 1, 2, 1, 2, 1], 4),
        (28, [1, 1, 1, 2, 2, 1, 2, 1], 4),
        (32, [1, 1, 1, 2, 2, 1, 2, 1], 4),
        (64, [1, 1, 2, 2, 2, 1, 2, 1], 4),
        (224, [2, 1, 2, 2, 2, 1, 2, 1], 7),
    ],
)
def test_small_images_are_halved_less_often(side: int, found: list[int], last: int) -> None:
    assert strides("cifar", side, side + 3) == found
    net = on_meta(Task(channels=1, height=side, width=side, classes=3))
    assert net.sizes[len(net.units) - 1] == (last, last)
    assert strides("imagenet", 32, 32) == [2, 1, 2, 2, 2, 1, 2, 1]


def test_an_image_too_small_for_the_published_strides_is_refused() -> None:
    with pytest.raises(
        ValueError, match="stem: imagenet halves images 5 times, 31x224 is too small; use cifar"
    ):
        strides("imagenet", 31, 224)


def test_layer_gates_stand_on_units_that_are_added_and_channel_gates_on_those_that_expand() -> None:
    net = on_meta(SMALL, granularity="joint", channel_group=8)
    by_kind = {kind: [g.block for g in net.gates if g.kind == kind] for kind in ("layer", "inner")}
    assert by_kind["layer"] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert by_kind["inner"] == list(range(1, 17))
    assert [g.units for g in net.gates if g.kind == "inner"][:3] == [96 // 8, 144 // 8, 144 // 8]
    assert {
        g.block for g in on_meta(SMALL, granularity="joint", forced_open="downsample").gates
    } == set(by_kind["layer"])


@pytest.mark.parametrize("compact", [False, True])
def test_closed_layers_return_their_input(mobilenet: Build, images: Draw, compact: bool) -> None:
    net, x = mobilenet(), images(4)
    u = net.features[0](x)
    for unit in net.units:
        u = u if unit.identity else unit.residual(u)
    expected = net.head(net.features[-1](u))
    assert torch.equal(net(x, Threshold(tau=1.0), compact=compact).logits_BC, expected)
    closed = sum(net.unit_macs(i) for i, unit in enumerate(net.units) if unit.identity)
    fixed = {gate.name: (0.0,) for gate in net.gates}
    assert (
        net(x, Threshold(fixed=fixed), compact=compact).macs_B.tolist()
        == [net.plain_macs - closed] * 4
    )


def test_units_run_for_open_samples_only(mobilenet: Build, images: Draw) -> None:
    net, x = mobilenet(), images(8)
    seen: dict[int, list[int]] = {}
    for index, unit in enumerate(net.units):
        for conv, _ in unit.convolutions():
            conv.register_forward_hook(
                lambda _m, args, _o, i=index: seen.setdefault(i, []).append(len(args[0]))
            )
    counts = dict(zip([gate.block for gate in net.gates], [0, 3, 8, 1, 0, 5, 2], strict=False))
    values = {g.name: (torch.arange(8) < counts[g.block]).float()[:, None] for g in net.gates}
    net(x, Told(values=values), compact=True)
    for index, unit in enumerate(net.units):
        count = counts.get(index, 8)
        assert seen.get(index, []) == ([count] * len(unit.convolutions()) if count else [])


@pytest.mark.parametrize("index", [1, 3, 4])
def test_macs_are_linear_in_open_channels(mobilenet: Build, images: Draw, index: int) -> None:
    net, x = mobilenet(granularity="channel", channel_group=8), images(1)
    (gate,) = (g for g in net.gates if g.block == index)
    for count in range(gate.units + 1):
        fixed = {g.name: (1.0,) * g.units for g in net.gates}
        fixed[gate.name] = (1.0,) * count + (0.0,) * (gate.units - count)
        saved = net.plain_macs - net(x, Threshold(fixed=fixed)).macs_B.item()
        assert (
            saved
            == net.unit_macs(index) * (gate.units - count) / gate.units
            == gate.macs * (gate.units - count)
        )


def masks(kind: str, channels: int) -> Tensor:
    """(24, E) of 0 and 1: no channel, all, one pattern for many and one of its own for each of the rest."""
    mask = (torch.rand(24, channels, generator=torch.Generator().manual_seed(2)) > 0.5).double()
    mask[:12] = mask[0]
    return {"mixed": mask, "none": 0 * mask, "all": 0 * mask + 1, "one": mask[:1]}[kind]


@pytest.mark.parametrize("kind", ["mixed", "none", "all", "one"])
@pytest.mark.parametrize("index", [2, 3])
def test_gathered_channels_give_the_masked_residual(
    mobilenet: Build, kind: str, index: int
) -> None:
    unit = mobilenet(SMALL).units[index]
    u, mask = torch.randn(24, unit.inputs, 5, 6, dtype=torch.float64), masks(kind, unit.expanded)
    torch.testing.assert_close(
        compact_residual(unit, u, mask), unit.residual(u, mask), rtol=1e-10, atol=1e-12
    )


def test_a_mask_before_the_depthwise_batch_norm_would_not_be_what_gathering_computes(
    mobilenet: Build,
) -> None:
    unit = mobilenet(SMALL).units[2]
    u, mask = (
        torch.randn(4, unit.inputs, 6, 6, dtype=torch.float64),
        masks("mixed", unit.expanded)[:4],
    )
    expand, depthwise, project, norm = unit.conv
    early = norm(project(depthwise(expand(u) * mask[:, :, None, None])))
    assert (early - compact_residual(unit, u, mask)).abs().max() > 0.01


def test_a_unit_with_no_channel_open_adds_the_shift_of_its_last_batch_norm(
    mobilenet: Build,
) -> None:
    unit = mobilenet(SMALL).units[3]
    u = torch.randn(3, unit.inputs, 7, 6, dtype=torch.float64)
    norm = unit.conv[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    height, width = unit.residual(u).shape[2:]
    shift = F.batch_norm(
        u.new_zeros(3, unit.outputs, height, width),
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
    )
    found = compact_residual(unit, u, u.new_zeros(1, unit.expanded))
    torch.testing.assert_close(found, shift, rtol=1e-12, atol=1e-12)


def test_exits_stand_where_the_published_network_halves_the_map() -> None:
    places = [
        (p.unit, p.channels, p.height) for p in on_meta(IMAGENET, stem="imagenet").stage_ends()
    ]
    assert places == [(2, 24, 56), (5, 32, 28), (12, 96, 14)]
    assert on_meta(SMALL, exits="scan").exit_count == 3
    assert on_meta(SMALL, exits="scan", gated=False).exit_count == 0


def test_the_same_seed_gives_the_backbone_of_the_baseline(mobilenet: Build) -> None:
    gated, plain = mobilenet(granularity="joint"), mobilenet(gated=False)
    weights = dict(gated.named_parameters())
    convs = [(name, p) for name, p in plain.named_parameters() if p.ndim == 4]
    assert convs
    assert all(torch.equal(p, weights[name]) for name, p in convs)
    assert plain.gates == ()


def test_units_are_scaled_by_depth() -> None:
    for depth, units in (
        (0.5, [1, 1, 2, 2, 2, 2, 1]),
        (1.0, [1, 2, 3, 4, 3, 3, 1]),
        (1.5, [2, 3, 5, 6, 5, 5, 2]),
    ):
        net = on_meta(SMALL, depth=depth)
        assert len(net.units) == sum(units)
        assert all(isinstance(unit, Bottleneck) for unit in net.features[1:-1])
