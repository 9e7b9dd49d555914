"""How layers that change places are told their place, and learn to tell it.

Shapes: B images, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn
from spaces.contract.registry import family
from spaces.transformers.layer_order import Places
from spaces.transformers.routed_vit import RoutedViT
from tests.spaces.variants import COLOUR, VARIANTS


@pytest.mark.parametrize("place", [0, 2])
def test_a_layer_is_told_the_place_at_which_it_runs(place: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        places = Places(4, 3, nn.Embedding(4, 3)).double()
        u_BND = torch.randn(2, 5, 4, dtype=torch.float64)
    row = places.table.weight[place].expand(2, 5, 3)
    hidden = places.fc(F.layer_norm(torch.cat([u_BND, row], -1), (7,)))
    out_BND = places(u_BND, place)
    torch.testing.assert_close(out_BND, u_BND + F.gelu(hidden))
    out_BND.sum().backward()
    gradient = places.table.weight.grad
    assert gradient is not None
    assert gradient.any(1).nonzero().flatten().tolist() == [place]


def test_layers_learn_to_tell_the_place_at_which_they_ran(images: Callable[..., Tensor]) -> None:
    values = VARIANTS["shuffled_vit"][0] | {"ls_variant": "predict", "pred_weight": 1.0}
    net = Candidate.of(family("shuffled_vit"), values, 4).build(COLOUR, 0).double().train()
    assert isinstance(net, RoutedViT)
    order = (3, 0, 2)
    with torch.no_grad():
        for head in net.place_heads:
            head.fc.weight.zero_()
            head.fc.bias.zero_()
        for place, layer in enumerate(order):
            net.place_heads[layer].fc.bias[place] = 40.0  # sure, and right for this order alone
    objective = net.objective(Plan(epochs=1, steps=1))

    def loss(*order: int) -> float:
        output = net(images(2, COLOUR), AlwaysOn(order=order))
        return objective.losses(output, torch.zeros(2, dtype=torch.long))["places"].item()

    assert loss(*order) == pytest.approx(0.0, abs=1e-6)
    assert loss(3, 2, 0) == pytest.approx(2 / 3 * 40.0)
