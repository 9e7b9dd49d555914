"""Merged networks and ensembles: identical parts give the same network, every donor gives its share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.transformers.merging import donors_of, ensemble, merged

TASK = Task(channels=1, height=8, width=8, classes=10)
SMALL = {"layers": 4, "dim": 32, "head_dim": 16, "mlp_ratio": 1, "patch": 4}


def net(seed: int, name: str = "shuffled_vit", **values: Any) -> DynamicNet:
    return Candidate.of(family(name), SMALL | values, 1).build(TASK, seed).eval()


def images() -> Tensor:
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "values", [{}, {"ls_variant": "position"}, {"oracle": "cls"}, {"ls_variant": "predict"}]
)
def test_merging_copies_of_one_network_gives_that_network_to_the_bit(
    values: dict[str, Any],
) -> None:
    one = net(0, **values)
    for copies in (2, 3, 4, 7):
        got = merged([one] * copies, donors_of(0, 0, 4, copies))
        for name, tensor in one.state_dict().items():
            assert torch.equal(got.state_dict()[name], tensor), name
        assert torch.equal(got(images()).logits_BC, one(images()).logits_BC)


def test_each_layer_comes_from_its_donor_and_the_rest_is_the_mean() -> None:
    nets = [net(seed) for seed in range(3)]
    got, draw = merged(nets, (2, 0, 1, 2)).state_dict(), (2, 0, 1, 2)
    for layer, donor in enumerate(draw):
        for name in ("qkv.weight", "down.bias", "norm1.weight"):
            key = f"layers.{layer}.{name}"
            assert torch.equal(got[key], nets[donor].state_dict()[key])
    for key in ("cls", "positions", "patches.weight", "norm.weight", "fc.weight"):
        expected = sum(one.state_dict()[key] for one in nets) / 3
        torch.testing.assert_close(got[key], expected)


def test_a_table_of_places_that_layers_share_is_a_mean_and_an_own_one_goes_with_its_layer() -> None:
    def tables(shared: bool) -> list[Tensor]:
        nets = [net(seed, ls_variant="position", pos_shared=shared) for seed in range(2)]
        for number, one in enumerate(nets):
            for name, parameter in one.named_parameters():
                if name.endswith("table.weight"):
                    torch.nn.init.constant_(parameter, float(number))
        state = merged(nets, (1, 0, 1, 0)).state_dict()
        return [state[f"places.{layer}.table.weight"] for layer in range(4)]

    assert [float(table.mean()) for table in tables(True)] == [0.5] * 4
    assert [float(table.mean()) for table in tables(False)] == [1, 0, 1, 0]


@pytest.mark.parametrize(("layers", "donors"), [(12, 12), (4, 4), (6, 3), (5, 2), (4, 9)])
def test_every_donor_gives_its_share(layers: int, donors: int) -> None:
    draws = {donors_of(0, draw, layers, donors) for draw in range(20)}
    assert len(draws) > 1
    for one in draws:
        counts = Counter(one)
        assert len(one) == layers
        assert set(one) <= set(range(donors))
        assert len(counts) == min(layers, donors)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_donors_are_left_as_they_were() -> None:
    nets = [net(0), net(1)]
    before = {name: tensor.clone() for name, tensor in nets[0].state_dict().items()}
    got = merged(nets, (0, 1, 0, 1))
    torch.nn.init.zeros_(got.fc.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in nets[0].state_dict().items())


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(ValueError, match="draw: 3 donors for 4 layers"):
        merged([net(0)], (0, 0, 0))
    with pytest.raises(ValueError, match="beyond the 1 networks"):
        merged([net(0)], (0, 0, 1, 0))
    with pytest.raises(ValueError, match="cannot change places"):
        merged([net(0, "dense_vit")], (0, 0, 0, 0))
    with pytest.raises(ValueError, match="differ in their parameters"):
        merged([net(0), net(0, dim=64)], (0, 1, 0, 1))
    three = Task(channels=1, height=8, width=8, classes=3)
    other = Candidate.of(family("shuffled_vit"), SMALL, 1).build(three, 0)
    with pytest.raises(ValueError, match="different tasks"):
        ensemble([net(0), other])


def test_an_ensemble_of_identical_networks_answers_as_one_of_them_and_costs_all() -> None:
    one, knobs = net(0), Knobs()
    both = ensemble([one, one, one]).run(images(), knobs)
    alone = one.run(images(), knobs)
    torch.testing.assert_close(both.logits_BC, alone.logits_BC)
    assert torch.equal(both.macs_B, 3 * alone.macs_B)
    torch.testing.assert_close(ensemble([one, one])(images()).logits_BC, alone.logits_BC)


def test_an_ensemble_is_the_mean_of_logits_of_networks_that_each_run_in_their_own_order() -> None:
    nets = [net(0), net(1)]
    got = ensemble(nets).run(images(), Knobs())
    expected = sum(one(images()).logits_BC for one in nets) / 2
    torch.testing.assert_close(got.logits_BC, expected)
    copies, arbitrary = ensemble([nets[0]] * 2), Knobs(order="arbitrary")
    own = [nets[0].run(images(), arbitrary, seed=seed).logits_BC for seed in (0, 1)]
    assert not torch.allclose(own[0], own[1])
    expected = (own[0] + own[1]) / 2
    torch.testing.assert_close(copies.run(images(), arbitrary).logits_BC, expected)
