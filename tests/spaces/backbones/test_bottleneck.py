"""Bottleneck ResNets: published costs, torchvision's weights, what gates on their filters save.

Shapes: B samples, U units of a gate, C filters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_resnet import PlainResNet, plain_logits
from spaces.backbones.bottleneck import BOTTLENECKS, EXPANSION, Bottleneck, from_torchvision
from spaces.backbones.resnet import DEPTHS, ResNetConfig, fold_batch_norm
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.narrowing import narrowed
from spaces.contract.net import DynamicNet, Plan
from spaces.contract.policies import Threshold
from spaces.contract.task import Task
from spaces.deploy import ship as deployment
from spaces.deploy.generic import Deployed
from spaces.families.gated_resnet import FAMILY, GatedResNet, GatedResNetConfig
from spaces.gates.block_execution import SMALLEST_GROUP, compact_residual
from spaces.gates.gate_objective import GateObjective
from spaces.gates.sparsity import PUBLISHED_TARGETS, target_vector

IMAGENET = Task(channels=3, height=224, width=224, classes=1000)
SMALL = Task(channels=3, height=8, width=8, classes=5)
FILTERS = 4
KINDS = ("inner", "middle", "outer")
Scramble = Callable[..., DynamicNet]
Draw = Callable[..., Tensor]


def on_meta(task: Task, **values: Any) -> GatedResNet:
    """A net without memory for weights: for shapes and costs of full sizes."""
    with torch.device("meta"):
        return GatedResNet(GatedResNetConfig(**values), task)


def small(scramble: Scramble, **values: Any) -> GatedResNet:
    """A small scrambled net whose gates open about half of the time."""
    config: dict[str, Any] = {
        "backbone": "resnet26",
        "width": 0.25,
        "granularity": "joint",
        "channel_where": "both",
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = scramble(GatedResNet(GatedResNetConfig(**config | values), SMALL))
    assert isinstance(net, GatedResNet)
    return net


def block(stride: int = 1, stride_in: str = "3x3", inputs: int = 6) -> Bottleneck:
    """A scrambled block of FILTERS inner filters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = Bottleneck(inputs, FILTERS, stride, stride_in)
        randomise_norms(one)
    return one.double().eval()


def randomise_norms(module: nn.Module) -> None:
    """Batch norms as after a training: statistics, scales and shifts of their own."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.5, 2.0),
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.5, 0.5),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)


def some(count: int, filters: int, seed: int, patterns: int = 3) -> Tensor:
    """(count, filters) masks of a few patterns."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(patterns, filters, generator=generator) > 0.5).double()
    return drawn[torch.randint(patterns, (count,), generator=generator)]


def inputs(count: int, channels: int = 6) -> Tensor:
    return torch.randn(
        count, channels, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def first(n_open: int | None, filters: int) -> Tensor | None:
    """(1, filters) with the last `n_open` open; None for no mask."""
    return None if n_open is None else (torch.arange(filters) >= filters - n_open)[None].double()


@pytest.mark.parametrize(
    ("backbone", "stride_in", "macs"),
    [
        ("resnet50", "3x3", 4_089_184_256),
        ("resnet101", "3x3", 7_801_405_440),
        ("resnet50", "1x1", 3_857_973_248),
        ("resnet101", "1x1", 7_570_194_432),
    ],
)
def test_macs_at_224_pixels_are_the_published_ones_and_torchs(
    backbone: str, stride_in: str, macs: int
) -> None:
    net = on_meta(
        IMAGENET, backbone=backbone, stem="imagenet", stride_in=stride_in, gated=False
    ).eval()
    assert net.plain_macs == macs
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        plain_logits(net, torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_every_identity_block_of_resnet50_costs_the_same(stride_in: str) -> None:
    net = on_meta(IMAGENET, backbone="resnet50", stem="imagenet", stride_in=stride_in)
    blocks = range(len(net.blocks))
    identity = [sum(net.block_macs(i)) for i in blocks if net.block(i).identity]
    assert identity == [218_365_952] * 12
    assert [i for i in blocks if not net.block(i).identity] == [0, 3, 7, 13]
    assert {gate.macs for gate in net.gates if net.block(gate.block).identity} == {218_365_952}


def test_the_small_stem_keeps_all_pixels_and_the_published_one_a_sixteenth() -> None:
    task = Task(channels=1, height=33, width=40, classes=3)
    sizes = {stem: on_meta(task, backbone="resnet26", stem=stem) for stem in ("cifar", "imagenet")}
    assert [(net.stem_size, net.sizes[-1]) for net in sizes.values()] == [
        ((33, 40), (5, 5)),
        ((9, 10), (2, 2)),
    ]
    for net in sizes.values():
        with torch.device("meta"):
            u = net.stem(torch.empty(1, 1, 33, 40))
            assert tuple(u.shape[2:]) == net.stem_size
            for index, size in enumerate(net.sizes):
                u = net.block(index)(u)
                assert tuple(u.shape[2:]) == size


@pytest.mark.parametrize("backbone", BOTTLENECKS)
def test_a_backbone_has_as_many_weight_layers_as_its_name_says(backbone: str) -> None:
    net = on_meta(SMALL, backbone=backbone, gated=False)
    layers = [name for name, p in net.named_parameters() if p.ndim > 1 and "shortcut" not in name]
    assert f"resnet{len(layers)}" == backbone
    assert net.fc.in_features == 512 * EXPANSION


def test_torchvisions_resnet50_loads_and_answers_alike() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torchvision.models.resnet50(weights=None, num_classes=10).eval()
        randomise_norms(theirs)
        # the gates are data-independent here, so that there is little to build beside the baseline
        config = GatedResNetConfig(backbone="resnet50", stem="imagenet", gate="independent")
        net = GatedResNet(config, Task(channels=3, height=64, width=64, classes=10)).eval()
        images = torch.randn(2, 3, 64, 64)
    renamed = from_torchvision(theirs.state_dict())
    assert renamed.keys() == net.plain_state(theirs.state_dict()).keys()
    left = net.load_state_dict(renamed, strict=False)
    assert left.unexpected_keys == []
    assert all(name.startswith("gate_heads.") for name in left.missing_keys)
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(
            net(images).logits_BC, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )


def test_names_that_are_ours_already_are_left_alone_and_blocks_are_numbered_by_stage_and_position() -> (
    None
):
    own = on_meta(SMALL, backbone="resnet26").state_dict()
    assert list(from_torchvision(own)) == list(own)
    names = [
        "layer2.0.conv1.weight",
        "layer1.10.downsample.1.bias",
        "layer1.2.bn3.weight",
        "fc.bias",
    ]
    found = from_torchvision({name: torch.zeros(()) for name in names})
    assert list(found) == [
        "blocks.2.conv1.weight",
        "blocks.1.shortcut.1.bias",
        "blocks.0.bn3.weight",
        "fc.bias",
    ]


@pytest.mark.parametrize(("stride", "stride_in"), [(1, "3x3"), (2, "3x3"), (2, "1x1")])
@pytest.mark.parametrize("n_inner", [0, 1, None])
@pytest.mark.parametrize("n_middle", [0, 3, None])
@pytest.mark.parametrize("n_outer", [0, 5, None])
def test_gathered_filters_equal_masked_ones(
    stride: int, stride_in: str, n_inner: int | None, n_middle: int | None, n_outer: int | None
) -> None:
    one, u = block(stride, stride_in), inputs(3)
    masks = first(n_inner, FILTERS), first(n_middle, FILTERS), first(n_outer, one.outputs)
    torch.testing.assert_close(
        compact_residual(one, u, *masks), one.residual(u, *masks), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("count", [1, SMALLEST_GROUP - 1, 40])
def test_samples_with_different_masks_come_back_in_their_places(count: int) -> None:
    one, u = block(2), inputs(count)
    masks = [some(count, n, seed) for seed, n in enumerate((FILTERS, FILTERS, one.outputs))]
    scaled = [0.3 * masks[0][:1], 0.6 * masks[1], 0.5 * masks[2]]
    for given in (
        masks,
        scaled,
        [masks[0], None, None],
        [None, masks[1]],
        [None, None, masks[2][:1]],
    ):
        torch.testing.assert_close(
            compact_residual(one, u, *given), one.residual(u, *given), rtol=1e-10, atol=1e-12
        )


def test_a_closed_filter_is_zero_for_the_convolution_that_reads_it() -> None:
    one, u = block(), inputs(2)
    masks = first(1, FILTERS), first(2, FILTERS)
    masked = one.residual(u, *masks)
    with torch.no_grad():
        one.conv2.weight[:, :3] = 0
        one.conv3.weight[:, :2] = 0
    torch.testing.assert_close(masked, one.residual(u))


def test_with_no_open_middle_filter_the_last_norms_shift_remains() -> None:
    one, u = block(), inputs(2)
    found = compact_residual(one, u, None, torch.zeros(1, FILTERS))
    shift = fold_batch_norm(one.conv3, one.bn3)[1]
    torch.testing.assert_close(found, shift[None, :, None, None].expand_as(found))
    assert found.abs().min().item() > 0


def test_macs_are_a_product_of_the_open_filters_on_both_sides_of_a_convolution(
    scramble: Scramble,
) -> None:
    net = small(scramble, granularity="channel", channel_group=1, outer_groups=4)
    index, image = 3, torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    c1, c2, c3, _ = net.block_macs(index)
    gates = {gate.kind: gate for gate in net.gates if gate.block == index}
    w, groups = gates["inner"].units, gates["outer"].units
    assert [gates[kind].units for kind in KINDS] == [w, w, 4]
    assert [gates[kind].macs * gates[kind].units for kind in KINDS] == [c1 + c2, c2 + c3, c3]

    def cost(*open_units: int) -> float:
        fixed = {gate.name: (1.0,) * gate.units for gate in net.gates}
        for kind, n in zip(KINDS, open_units, strict=True):
            fixed[gates[kind].name] = (1.0,) * n + (0.0,) * (gates[kind].units - n)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            macs = net(image, Threshold(fixed=fixed), compact=True).macs_B.item()
        assert counter.get_total_flops() == 2 * macs
        return macs - net.plain_macs + c1 + c2 + c3

    for n1, n2 in ((w, w), (w, 1), (5, w), (3, 7), (0, 4)):
        assert cost(n1, n2, groups) == c1 * n1 / w + c2 * n1 * n2 / w**2 + c3 * n2 / w
    assert cost(3, 7, 1) == c1 * 3 / w + c2 * 21 / w**2 + c3 * 7 / (w * groups)
    assert cost(5, 0, groups) == 0  # nothing reads the first convolution
    assert cost(5, 3, 0) == 0


def test_inner_gates_stand_on_both_convolutions_inside_a_block() -> None:
    net = on_meta(IMAGENET, backbone="resnet50", granularity="channel", channel_group=16)
    assert [(gate.name, gate.units) for gate in net.gates][:4] == [
        ("block0.inner", 4),
        ("block0.middle", 4),
        ("block1.inner", 4),
        ("block1.middle", 4),
    ]
    outer = on_meta(
        IMAGENET, backbone="resnet50", granularity="channel", channel_where="outer", outer_groups=2
    )
    assert [gate.name for gate in outer.gates] == [f"block{i}.outer" for i in range(16)]


def test_exits_stand_behind_the_stages() -> None:
    net = on_meta(SMALL, backbone="resnet50", exits="light")
    assert [(place.unit, place.channels) for place in net.stage_ends()] == [
        (2, 256),
        (6, 512),
        (12, 1024),
    ]
    assert net.exit_count == 3


def test_published_targets_leave_the_blocks_of_target_1_without_gates() -> None:
    net = on_meta(SMALL, backbone="resnet50", loss="per_gate", target_vector="aig50", target=0.5)
    assert len(PUBLISHED_TARGETS["aig50"]) == len(net.blocks)
    assert [gate.block for gate in net.gates] == [2, 4, 5, 6, 8, 9, 10, 11, 12, 14]
    assert target_vector("aig50", 0.5, len(net.gates)) == [0.8, *[0.5] * 8, 0.7]
    for forced in ("first", "first_last", "downsample"):
        again = on_meta(
            SMALL, backbone="resnet50", loss="per_gate", target_vector="aig50", forced_open=forced
        )
        assert [gate.block for gate in again.gates] == [gate.block for gate in net.gates]
    unused = on_meta(SMALL, backbone="resnet50", loss="target_free", target_vector="aig50")
    assert len(unused.gates) == 16


def test_published_targets_of_resnet101_leave_its_first_8_blocks_without_gates() -> None:
    net = on_meta(SMALL, backbone="resnet101", loss="per_gate", target_vector="aig101", target=0.3)
    assert [gate.block for gate in net.gates] == list(range(8, 33))
    assert target_vector("aig101", 0.3, len(net.gates)) == [0.3] * 25


def test_published_targets_are_what_the_objective_compares_with(
    scramble: Scramble, images: Draw
) -> None:
    values = {
        "backbone": "resnet50",
        "granularity": "layer",
        "loss": "per_gate",
        "target_vector": "aig50",
    }
    net = small(scramble, **values, target=0.5, loss_weight=2.0)
    objective = net.objective(Plan(epochs=1, steps=1))
    assert isinstance(objective, GateObjective)
    output = net(images(4, SMALL), Threshold())
    m_G = torch.cat([d.z_BU.mean(0) for d in output.decisions])
    t_G = torch.tensor([0.8, *[0.5] * 8, 0.7], dtype=torch.float64)
    loss = objective.losses(output, torch.tensor([0, 1, 2, 3]))["per_gate_layer"]
    torch.testing.assert_close(loss, 2 * (m_G - t_G).square().mean())


@pytest.mark.parametrize(
    "values", [{"backbone": "resnet101"}, {"backbone": "resnet50", "granularity": "joint"}]
)
def test_published_targets_are_refused_for_other_networks(values: dict[str, str]) -> None:
    with pytest.raises(
        ValueError,
        match=r"^target_vector: aig50 is of the layer gates of resnet50, not of the .*; choo",
    ):
        GatedResNetConfig(loss="per_gate", target_vector="aig50", **dict[str, Any](values))


def test_a_search_draws_networks_of_bottlenecks_only_where_they_are_named() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {
        Candidate.suggested(study.ask(), FAMILY, FAMILY.space, 1).config.backbone for _ in range(60)
    }
    assert drawn == set(DEPTHS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = narrowed(
        FAMILY.space, {"backbone": ["resnet20", "resnet50"], "stem": "imagenet"}, "here"
    )
    found = [Candidate.suggested(study.ask(), FAMILY, space, 1) for _ in range(20)]
    assert {candidate.config.backbone for candidate in found} == {"resnet20", "resnet50"}
    with pytest.raises(
        ValueError, match=r"^here.backbone: resnet34 is not one of resnet8, .*resnet50, resnet101$"
    ):
        narrowed(FAMILY.space, {"backbone": "resnet34"}, "here")


def test_dimensions_of_the_other_kind_of_backbone_do_not_matter() -> None:
    other = {"resnet20": {"stem": "imagenet", "stride_in": "1x1"}, "resnet50": {"shortcut": "A"}}
    for backbone, values in other.items():
        one = Candidate.of(FAMILY, {"backbone": backbone}, 1)
        same = Candidate.of(FAMILY, {"backbone": backbone, **values}, 1)
        assert same.key == one.key
        assert same.baseline().key == one.baseline().key
        assert not values.keys() & one.baseline().params.keys()
        with torch.device("meta"):
            nets = [
                PlainResNet(ResNetConfig(backbone=backbone, **dict[str, Any](own)), SMALL)
                for own in ({}, values)
            ]
        assert nets[0].total_macs() == nets[1].total_macs()


def test_the_plain_candidate_keeps_stem_and_stride() -> None:
    size: dict[str, Any] = {
        "backbone": "resnet26",
        "width": 0.25,
        "stem": "imagenet",
        "stride_in": "1x1",
    }
    plain = Candidate.of(FAMILY, {**size, "target": 0.3}, 1).baseline()
    assert plain.config == GatedResNetConfig(gated=False, **size)
    assert Candidate.of(FAMILY, plain.params, 1).config == plain.config
    names = set(PlainResNet(ResNetConfig(**size), SMALL).state_dict())
    assert set(plain.build(SMALL, 0).state_dict()) == names


def test_networks_of_bottlenecks_ship_in_the_form_of_any_family(
    scramble: Scramble, images: Draw
) -> None:
    net, x = small(scramble), images(4, SMALL)
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    shipped = deployment.ship(net, Knobs(), rates)
    assert isinstance(shipped, Deployed)
    output = net(x, Threshold())
    logits, macs_B = shipped.run(x)
    torch.testing.assert_close(logits, output.logits_BC)
    assert torch.equal(macs_B, output.macs_B)
    config = {name: getattr(net.config, name) for name in net.config.__dataclass_fields__}
    again = deployment.rebuild("gated_resnet", config, SMALL, shipped.description()).double().eval()
    again.load_state_dict(shipped.state_dict())
    torch.testing.assert_close(again.run(x)[0], logits)
