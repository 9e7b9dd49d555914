"""Multi-exit networks: their backbones, MACs and published costs; exits themselves are in test_exits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.backbones.sections import BACKBONES, RESNETS, WIDE_RESNETS
from spaces.contract.knobs import Knobs
from spaces.contract.net import Objective, Plan
from spaces.contract.task import Task
from spaces.exits.exit_heads import ScanHead
from spaces.exits.exit_objective import ExitObjective
from spaces.families.multi_exit import (
    FAMILY,
    PAPER_COSTS,
    MultiExitConfig,
    MultiExitNet,
    paper_cost,
)

CIFAR = Task(channels=3, height=32, width=32, classes=100)
SIZES = ((8, 8), (28, 28), (9, 13), (4, 4), (1, 1))


def shell(task: Task = CIFAR, **values: Any) -> MultiExitNet:
    """A network without weights, however large."""
    with torch.device("meta"):
        return MultiExitNet(MultiExitConfig(**values), task)


def side_branches(net: MultiExitNet) -> list[int]:
    return [int(head.own_macs) for head in net.exit_heads]


def test_resnet18_costs_what_is_published_for_it() -> None:
    net = shell(width=1.0, attention="full")
    assert net.plain_macs == 555_468_800
    first, *others = net.section_macs
    assert [net.stem_macs + first, *others] == [152_764_416, 134_217_728, 134_217_728, 134_217_728]
    attention, heads = [], []
    for head in net.exit_heads:
        assert isinstance(head, ScanHead)
        assert head.attention is not None
        attention.append(head.attention.macs())
        heads.append(head.own_macs - attention[-1])
    assert attention == [26_214_400] * 3
    assert heads == [26_265_600, 9_488_384, 4_245_504]


def test_relative_costs_of_the_resnet18_cascade() -> None:
    net = shell(width=1.0, attention="full")
    paid, fractions = net.stem_macs, []
    for macs, branch in zip(net.section_macs, [*side_branches(net), net.head_macs], strict=True):
        paid += macs + branch
        fractions.append(paid / net.plain_macs)
    assert fractions == pytest.approx([0.369, 0.675, 0.972, 1.214], abs=1e-3)


@pytest.mark.parametrize(
    ("backbone", "share"),
    [("resnet18", 0.21), ("resnet50", 1.04), ("resnet101", 0.54), ("resnet152", 0.36)],
)
def test_side_branches_with_full_attention_are_as_dear_as_known(
    backbone: str, share: float
) -> None:
    net = shell(backbone=backbone, width=1.0, attention="full")
    assert sum(side_branches(net)) / net.plain_macs == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_costs_what_torch_counts(backbone: str) -> None:
    net = shell(backbone=backbone, width=1.0).eval()
    with FlopCounterMode(display=False) as counter:
        logits_BC = net(torch.empty(1, 3, 32, 32, device="meta")).logits_BC
    assert logits_BC.shape == (1, 100)
    assert counter.get_total_flops() == 2 * net.plain_macs


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_has_the_layers_it_is_named_after(backbone: str) -> None:
    net = shell(backbone=backbone, width=1.0, gated=False)
    layers = [
        m
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    replaced = 2 if backbone.startswith("vgg") else 0  # linear layers
    depth = int("".join(c for c in backbone.split("_")[0] if c.isdigit()))
    assert len(layers) + replaced == depth
    assert net.fc.in_features == (2048 if backbone in RESNETS and depth > 18 else 512)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_classifiers_stand_behind_each_section(backbone: str) -> None:
    net = shell(backbone=backbone)
    assert net.exit_count + 1 == len(net.sections) == (3 if backbone in WIDE_RESNETS else 4)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", SIZES)
def test_images_of_any_size_go_through_every_backbone(backbone: str, size: tuple[int, int]) -> None:
    task = Task(channels=1, height=size[0], width=size[1], classes=7)
    net = shell(task, backbone=backbone, width=0.125).eval()
    u = net.stem(torch.empty(2, 1, *size, device="meta"))
    for section, place in zip(net.sections, net.places, strict=True):
        u = section(u)
        assert u.shape == (2, place.channels, place.height, place.width)
    assert net.head(u).shape == (2, 7)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attention", ["full", "depthwise", "reduced", "none"])
def test_exits_cost_what_torch_counts_on_images_of_any_size(
    size: tuple[int, int], attention: str
) -> None:
    task = Task(channels=1, height=size[0], width=size[1], classes=7)
    net = shell(task, width=0.125, attention=attention).eval()
    for head, place in zip(net.exit_heads, net.places[:-1], strict=True):
        u = torch.empty(1, place.channels, place.height, place.width, device="meta")
        with FlopCounterMode(display=False) as counter:
            logits, feature = head(u)
        assert logits.shape == (1, 7)
        assert feature.shape == (1, net.fc.in_features)
        assert counter.get_total_flops() == 2 * int(head.own_macs)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_channels_are_multiples_of_8_at_every_width(backbone: str) -> None:
    costs = []
    for width in (0.125, 0.25, 0.5, 1.0):
        net = shell(backbone=backbone, width=width)
        convs = [conv for conv in net.sections.modules() if isinstance(conv, nn.Conv2d)]
        assert all(conv.out_channels % 8 == 0 for conv in convs)
        costs.append([net.plain_macs, *side_branches(net)])
    for narrow, wide in pairwise(costs):
        assert all(3 < w / n < 5 for n, w in zip(narrow, wide, strict=True)), (
            "exits shrink as the network does"
        )


def test_a_study_searches_few_dimensions_and_exits_are_among_them() -> None:
    searched = {d.name for d in FAMILY.space if d.searched and "gate" not in str(d.when)}
    assert searched - {"lr", "adamw_lr", "weight_decay"} == {
        "backbone",
        "exits",
        "attention",
        "alpha_kd",
    }
    exits = next(d for d in FAMILY.space if d.name == "exits")
    assert (exits.default, exits.choices) == ("scan", ("scan", "msdnet", "light"))


def test_the_baseline_has_no_exits_and_a_plain_objective() -> None:
    net = shell(width=0.125, gated=False)
    assert (net.exit_count, len(net.exit_heads), net.gates) == (0, 0, ())
    assert type(net.objective(Plan(epochs=1, steps=1))) is Objective
    assert isinstance(shell().objective(Plan(epochs=1, steps=1)), ExitObjective)
    assert net.plain_macs == shell(width=0.125).plain_macs


def test_knobs_set_where_images_leave() -> None:
    task = Task(channels=1, height=8, width=8, classes=4)
    net = MultiExitNet(MultiExitConfig(width=0.125), task).eval()
    x = torch.randn(3, 1, 8, 8)
    for thresholds, exit in (
        ((-0.1, 1.0, 1.0), 0),
        ((1.0, -0.1, 1.0), 1),
        ((1.0, 1.0, -0.1), 2),
        ((1.0,) * 3, 3),
    ):
        output = net.run(x, Knobs(exit_rule="maxprob", exit_thresholds=thresholds), compact=True)
        assert output.exits is not None
        assert output.exits.index_B.tolist() == [exit] * 3
    assert net.run(x, Knobs()).macs_B.tolist() == [net.plain_macs] * 3


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^backbone: resnet34 is not one of resnet18, resnet50, .*, wrn44_8$"
    ):
        shell(backbone="resnet34")


def test_the_published_cost_is_the_mean_of_constants() -> None:
    for exit, cost in enumerate(PAPER_COSTS):
        assert paper_cost([float(exit == other) for other in range(5)]) == cost
    assert paper_cost([0.5, 0.5, 0.0, 0.0, 0.0]) == pytest.approx(0.425)
    for wrong in ([0.5, 0.5], [0.5, 0.5, 0.5, 0.0, 0.0], [1.5, -0.5, 0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match=r"^share_by_exit: .* are not 5 shares that sum to 1$"):
            paper_cost(wrong)


def test_a_stem_for_large_images_leaves_the_published_maps_and_heads() -> None:
    task = Task(channels=3, height=224, width=224, classes=1000)
    with torch.device("meta"):
        net = MultiExitNet(MultiExitConfig(backbone="resnet18", width=1.0, stem="imagenet"), task)
    assert [place.height for place in net.places] == [56, 28, 14, 7]
    assert net.plain_macs == 1_814_073_344  # of torchvision's resnet18
    assert [head.shrink.stride for head in net.exit_heads] == [(8, 8), (4, 4), (2, 2)]
