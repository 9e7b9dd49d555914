"""Trunks that keep their weights: rows of features stand for images, and nothing but heads learns.

Shapes: B images.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.backbones.timm_models import own_classifier
from spaces.contract.exit_rules import ExitRule
from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Policy, Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.exits.frozen_trunk import FrozenTrunkNet

TASK = Task(channels=3, height=32, width=32, classes=5, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
NETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("timm", {"backbone": "test_resnet", "dynamics": "exits", "exits": "linear"}),
    ("timm", {"backbone": "test_vit", "dynamics": "exits", "exits": "linear"}),
    ("timm", {"backbone": "test_convnext", "dynamics": "exits", "exits": "scan"}),
    (
        "timm",
        {
            "backbone": "test_efficientnet",
            "dynamics": "exits",
            "exits": "light",
            "exit_decision": "gate",
        },
    ),
    ("timm", {"backbone": "test_resnet", "gated": False}),
    ("timm", {"backbone": "test_vit", "gated": False, "truncated": 1}),
    ("multi_exit", {"width": 0.125, "exits": "linear"}),
    ("multi_exit", {"width": 0.125, "exits": "scan", "exit_decision": "gate", "exit_gate": "conv"}),
    ("multi_exit", {"width": 0.125, "gated": False, "truncated": 0}),
    ("timm", {"backbone": "test_vit", "dynamics": "exits", "exits": "linear", "exit_reads": "all"}),
    ("multi_exit", {"width": 0.125, "exits": "light", "exit_places": "1", "exit_reads": "all"}),
)


def built(name: str, **values: Any) -> FrozenTrunkNet:
    net = Candidate.of(family(name), {"trunk": "frozen", **values}, 2).build(TASK, 0)
    assert isinstance(net, FrozenTrunkNet)
    return net


def drawn(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def policies(net: FrozenTrunkNet) -> list[Policy]:
    """All open, all exits evaluated, and images leaving early by whatever decides here."""
    found: list[Policy] = [AlwaysOn()]
    if net.gates:
        found.append(Threshold(tau=0.5))
    elif net.exit_count:
        some = ExitRule(thresholds=(0.22,) * net.exit_count)
        found += [AlwaysOn(exits=ExitRule(every=True)), AlwaysOn(exits=some)]
        sure = ExitRule(thresholds=(0.3,) * (net.exit_count + 1), fallback="ensemble")
        found.append(AlwaysOn(exits=sure))
    return found


@pytest.mark.parametrize(("name", "values"), NETS)
def test_rows_of_features_are_answered_as_the_images_that_they_stand_for(
    name: str, values: dict[str, Any]
) -> None:
    net, images = built(name, **values).eval(), drawn()
    with torch.no_grad():
        rows = torch.cat(net.features(images, net.reads), 1)
        for policy in policies(net):
            whole, kept = net(images, policy), net(rows, policy)
            torch.testing.assert_close(kept.logits_BC, whole.logits_BC, rtol=0, atol=1e-6)
            assert torch.equal(kept.macs_B.expand(6), whole.macs_B.expand(6))
            assert (kept.exits is None) == (whole.exits is None)
            if kept.exits is not None and whole.exits is not None:
                assert torch.equal(kept.exits.index_B, whole.exits.index_B)


@pytest.mark.parametrize(("name", "values"), [*NETS[:2], NETS[6]])
def test_only_heads_learn_and_statistics_of_the_trunk_stay(
    name: str, values: dict[str, Any]
) -> None:
    net = built(name, **values).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    learning = [p for p in net.parameters() if p.requires_grad]
    step = torch.optim.SGD(learning, lr=0.1)
    objective = net.objective(Plan(epochs=1, steps=1))
    output = net(drawn(), objective.policy(0, torch.arange(6)))
    losses = objective.losses(output, torch.arange(6) % 5)
    torch.stack(list(losses.values())).sum().backward()
    step.step()
    trunk = net.trunk_names(net.last_read())
    assert trunk
    for key, value in net.state_dict().items():
        if ".norm" not in key and "_norm" not in key:
            assert torch.equal(value, before[key]) == (key in trunk), key


def test_gates_learn_on_a_frozen_trunk_without_features_that_could_be_kept() -> None:
    net = built("timm", backbone="test_resnet", dynamics="both", exits="linear").train()
    assert net.reads == ()
    assert all(p.requires_grad for p in net.gate_parameters())
    assert not any(p.requires_grad for p in net.model.layer1.parameters())
    assert not any(module.training for module in net.model.modules())


def test_a_baseline_that_ends_behind_a_stage_is_that_part_of_the_network() -> None:
    whole = built("timm", backbone="test_resnet", gated=False).eval()
    short = built("timm", backbone="test_resnet", gated=False, truncated=0).eval()
    trunk = set(short.trunk_names(short.last_read()))
    state = {name: value for name, value in whole.state_dict().items() if name in trunk}
    short.load_state_dict(state, strict=False)
    read, images = short.last_read(), drawn()
    with torch.no_grad():
        (ours,), (theirs,) = short.features(images, [read]), whole.features(images, [read])
        expected = short.stage_head(short.head_norm(theirs))
        torch.testing.assert_close(short(images).logits_BC, expected)
    assert torch.equal(ours, theirs)
    assert short.plain_macs == int(short(images).macs_B[0]) < whole.plain_macs
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in whole.parameters())


def test_the_weights_of_a_whole_network_find_their_places_in_one_that_ends_early() -> None:
    whole = built("timm", backbone="test_vit", gated=False)
    short = built("timm", backbone="test_vit", gated=False, truncated=0)
    own = short.plain_state(whole.model.state_dict())
    assert set(own) <= set(short.state_dict()) | {"model.head.weight", "model.head.bias"}
    assert set(short.trunk_names(short.last_read())) <= set(own)


def test_pixels_come_as_the_published_weights_expect_them() -> None:
    net = built("timm", backbone="test_resnet", gated=False)
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v)[:, None, None] for v in (TASK.mean, TASK.std))
    cfg = net.model.default_cfg
    wanted = (pixels - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[
        :, None, None
    ]
    torch.testing.assert_close(net.pixels((pixels - mean) / std), wanted)
    images = Candidate.of(family("timm"), {"backbone": "test_resnet"}, 1).build(TASK, 0)
    assert images.pixels is None


def test_a_linear_probe_reads_pooled_features_at_mean_0_and_deviation_1() -> None:
    net = built("timm", backbone="test_resnet", dynamics="exits", exits="linear").eval()
    rows = torch.cat(net.features(drawn(64), net.reads), 1)
    parts = dict(
        zip(
            [read.name for read in net.reads],
            rows.split([read.width for read in net.reads], 1),
            strict=True,
        )
    )
    net.standardise(
        {name: part.mean(0) for name, part in parts.items()},
        {name: part.var(0, correction=0) for name, part in parts.items()},
    )
    net.train()
    assert not net.exit_heads[0].norm.training
    normed = net.exit_heads[0].norm(parts["unit0"])
    torch.testing.assert_close(normed.mean(0), torch.zeros(32), rtol=0, atol=1e-4)
    assert float(normed.var(0, correction=0).median()) == pytest.approx(1.0, abs=0.1)


def test_a_model_that_answers_by_more_than_one_layer_is_refused() -> None:
    class Distilled(torch.nn.Module):
        def get_classifier(self) -> tuple[torch.nn.Module, torch.nn.Module]:
            return torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="some_net does not answer by one linear layer"):
        own_classifier(Distilled(), "some_net")
