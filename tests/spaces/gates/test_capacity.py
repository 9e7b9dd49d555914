"""What a gate that is open for a share p of the images can change, and when two gates that share a capacity settle.

Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018: observations S3.1, S3.2 and S3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor

from spaces.contract.policies import Sampled, Threshold
from spaces.families.gated_resnet import GatedResNet

Build = Callable[..., GatedResNet]
Draw = Callable[..., Tensor]


@pytest.mark.parametrize("together", [1, 2, 3])
def test_layers_change_the_answers_of_no_more_images_than_open_any_of_them(
    resnet: Build, images: Draw, together: int
) -> None:
    """S3.1 for one layer, S3.2 for several: the bound is the share of their union, not the sum of their shares."""
    net, x = resnet(backbone="resnet8"), images(64)
    whole = net(x, Threshold())
    opened = {one.gate.name: one.open_BU[:, 0] for one in whole.decisions}
    labels = torch.randint(0, 5, (64,), generator=torch.Generator().manual_seed(0))
    right = whole.logits_BC.argmax(1) == labels
    changed = 0
    for layers in combinations(opened, together):
        without = net(x, Threshold(fixed=dict.fromkeys(layers, (0.0,))))
        union_B = torch.stack([opened[name] for name in layers]).any(0)
        assert torch.equal(without.logits_BC[~union_B], whole.logits_BC[~union_B])
        away = (without.logits_BC.argmax(1) == labels).double().mean() - right.double().mean()
        assert abs(away) <= union_B.double().mean()
        assert union_B.double().mean() <= sum(opened[name].double().mean() for name in layers)
        changed += int((without.logits_BC.argmax(1) != whole.logits_BC.argmax(1)).sum())
    assert changed, "no layer matters: the test needs other gates"


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_two_gates_with_a_capacity_of_one_layer_gain_by_chance_only_where_both_are_worth_two(
    resnet: Build, images: Draw, p: float
) -> None:
    """S3.3: a network of two layers is right with a_2, of one with a_1, of none never. Then a_2 / a_1 has to be 2."""
    net = resnet(backbone="resnet8", gate="independent", forced_open="first")
    first, second = net.gates
    n = 20_000
    policy = Sampled(seed=1, step=0, ids_B=torch.arange(n), units=2)
    logits = {first: math.log(p / (1 - p)), second: math.log((1 - p) / p)}
    drawn_2N = torch.cat(
        [policy.decide(gate, torch.full((1, 1), logit)).open_BU for gate, logit in logits.items()],
        1,
    ).T
    layers_N = drawn_2N.sum(0)
    assert layers_N.double().mean() == pytest.approx(1.0, abs=0.02), "the capacity"
    none, one, both = ((layers_N == count).double().mean().item() for count in range(3))
    noise = 4 * math.sqrt(0.25 / n)
    assert (none, both) == pytest.approx((p * (1 - p), p * (1 - p)), abs=noise)
    assert one == pytest.approx(1 - 2 * p + 2 * p**2, abs=noise)
    a_1 = 0.4
    for ratio in (1.0, 1.8, 2.2):
        by_chance = one * a_1 + both * ratio * a_1
        assert (by_chance > a_1) == (ratio > 2), ratio
