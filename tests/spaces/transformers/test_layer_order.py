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
from spaces.contract.knobs import Knobs
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn
from spaces.contract.registry import family
from spaces.families.shuffled_vit import ShuffledViTConfig
from spaces.transformers.layer_order import Places, survival_rates, training_order
from spaces.transformers.routed_vit import RoutedViT
from tests.spaces.transformers.vits import SMALL, TASK, Draw, vit
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


def test_identity_order_is_the_baseline_to_the_bit_and_another_order_is_not(images: Draw) -> None:
    net = vit("shuffled_vit")
    x = images(4, TASK)
    assert torch.equal(net(x, AlwaysOn(order=(0, 1, 2, 3))).logits_BC, net(x, AlwaysOn()).logits_BC)
    assert not torch.allclose(
        net(x, AlwaysOn(order=(3, 1, 2, 0))).logits_BC, net(x, AlwaysOn()).logits_BC
    )


def test_layers_run_in_the_order_asked_for(images: Draw) -> None:
    net, ran = vit("shuffled_vit"), list[int]()
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    output = net(images(2, TASK), AlwaysOn(order=(2, 0, 3)))
    assert ran == [2, 0, 3]
    assert output.macs_B.tolist() == [net.plain_macs - net.layer_macs] * 2


def test_training_orders_are_permutations_drawn_anew_and_again_the_same() -> None:
    config = ShuffledViTConfig(layers=6)
    orders = [training_order(config, 6, seed=1, step=s) for s in range(200)]
    assert orders == [training_order(config, 6, seed=1, step=s) for s in range(200)]
    assert len(set(orders)) > 150
    assert all(order is None or sorted(order) == list(range(6)) for order in orders)
    first = [order[0] if order else 0 for order in orders]
    assert all(20 < first.count(layer) < 50 for layer in range(6)), (
        "every layer comes first about as often"
    )


def test_a_window_limits_how_far_a_layer_moves() -> None:
    config = ShuffledViTConfig(layers=8, order_train="window", window=2)
    moved = 0
    for step in range(300):
        order = training_order(config, 8, seed=0, step=step) or tuple(range(8))
        distances = [abs(place - layer) for place, layer in enumerate(order)]
        assert max(distances) <= 2
        moved += max(distances) > 0
    assert moved > 250


def test_partial_shuffling_shuffles_that_share_of_batches() -> None:
    config = ShuffledViTConfig(layers=6, shuffle_prob=0.25)
    shuffled = sum(training_order(config, 6, seed=0, step=s) is not None for s in range(2000))
    assert 400 < shuffled < 600


def test_layerdrop_leaves_out_that_share_of_layers() -> None:
    config = ShuffledViTConfig(layers=6, order_train="identity", layerdrop=0.2)
    kept = [training_order(config, 6, seed=0, step=s) or tuple(range(6)) for s in range(1000)]
    assert all(list(order) == sorted(order) for order in kept)
    assert 0.78 < sum(map(len, kept)) / 6000 < 0.82


def test_stochastic_depth_drops_in_training_and_scales_at_inference(images: Draw) -> None:
    assert survival_rates(0.5, 4) == pytest.approx((0.875, 0.75, 0.625, 0.5))
    net = vit("shuffled_vit", stochastic_depth=0.5, order_train="identity")
    x = images(4, TASK)
    assert torch.equal(net(x).logits_BC, net(x).logits_BC)
    u = net.stem(x)
    for layer, rate in zip(net.layers, survival_rates(0.5, 4), strict=True):
        u = u + rate * (layer(u) - u)
    torch.testing.assert_close(net(x).logits_BC, net.head(u))
    policy = net.train().objective(Plan(epochs=1, steps=1)).policy(0, torch.arange(4000))
    assert policy.survival is not None
    assert policy.survival.mean(0).tolist() == pytest.approx(survival_rates(0.5, 4), abs=0.04)


def test_places_are_told_by_one_table_or_one_a_layer() -> None:
    shared = vit("shuffled_vit", ls_variant="position", pos_dim=32)
    own = vit("shuffled_vit", ls_variant="position", pos_dim=32, pos_shared=False)
    tables = [name for name, _ in shared.named_parameters() if "table" in name]
    assert len(tables) == 1
    assert dict(shared.named_parameters())[tables[0]].numel() == SMALL["layers"] * 32
    assert len([name for name, _ in own.named_parameters() if "table" in name]) == SMALL["layers"]


def test_the_place_that_is_told_is_the_step_and_not_the_layer(images: Draw) -> None:
    net = vit("shuffled_vit", ls_variant="position", pos_dim=8)
    told = list[tuple[int, int]]()
    for index, place in enumerate(net.places):
        place.register_forward_pre_hook(lambda _, args, index=index: told.append((index, args[1])))
    net(images(2, TASK), AlwaysOn(order=(3, 0, 2)))
    assert told == [(3, 0), (0, 1), (2, 2)]


def test_guessing_places_by_chance_loses_the_logarithm_of_their_number(images: Draw) -> None:
    net = vit("shuffled_vit", ls_variant="predict", pred_weight=1.0)
    with torch.no_grad():
        for head in net.place_heads:
            head.fc.weight.zero_()
            head.fc.bias.zero_()
    net.train()
    objective = net.objective(Plan(epochs=1, steps=9))
    terms = objective.losses(
        net(images(4, TASK), objective.policy(5, torch.arange(4))), torch.zeros(4, dtype=torch.long)
    )
    assert float(terms["places"].detach()) == pytest.approx(float(torch.log(torch.tensor(4.0))))
    assert "places" not in net.eval()(images(4, TASK)).extra


def test_arbitrary_orders_are_the_same_for_equal_seed_and_step(images: Draw) -> None:
    net, x = vit("shuffled_vit"), images(3, TASK)
    knobs = Knobs(order="arbitrary")
    one, again, other = (net.run(x, knobs, seed=4, step=step).logits_BC for step in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_fewer_layers_and_another_order_combine(images: Draw) -> None:
    net, x = vit("shuffled_vit"), images(3, TASK)
    ran = list[int]()
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    net.run(x, Knobs(order="arbitrary", keep=(1, 3)), seed=1, step=1)
    assert sorted(ran) == [1, 3]


def test_what_layers_are_told_can_be_dropped_in_training_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        places = Places(64, 3, nn.Embedding(4, 3), dropout=0.5)
        u_BND = torch.zeros(2, 50, 64)
        told, dropped = places.eval()(u_BND, 1), places.train()(u_BND, 1)
    kept = dropped != 0
    assert 0.4 < float(kept.double().mean()) < 0.6
    torch.testing.assert_close(dropped[kept], 2 * told[kept])


def test_an_epoch_reports_how_often_layers_told_their_place(images: Draw) -> None:
    net = vit("shuffled_vit", ls_variant="predict").train()
    with torch.no_grad():
        for index, head in enumerate(net.place_heads):
            head.fc.weight.zero_()
            head.fc.bias.zero_()
            head.fc.bias[index] = 40.0  # each says its own place
    objective = net.objective(Plan(epochs=1, steps=1))
    objective.start_epoch(0)
    labels = torch.zeros(2, dtype=torch.long)
    for order in ((0, 1, 2, 3), (0, 2, 1, 3)):
        objective.losses(net(images(2, TASK), AlwaysOn(order=order)), labels)
    assert objective.report()["place_accuracy"] == pytest.approx(0.75)
    objective.start_epoch(1)
    assert "place_accuracy" not in objective.report()
