"""Gate heads: their start, their inputs, their size."""

from __future__ import annotations

import math

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.gates.gate_heads import GateConfig, GateHeads

UNITS = {"layer": 1, "inner": 4}


def heads(channels: int = 6, units: dict[str, int] | None = None, **overrides: object) -> GateHeads:
    torch.manual_seed(0)
    return GateHeads(GateConfig(**{"granularity": "joint"} | overrides), channels, units or UNITS)


@pytest.mark.parametrize("two_logit", [False, True])
@pytest.mark.parametrize("gate", ["dependent", "independent"])
def test_a_new_gate_is_open_with_probability_0_870(gate: str, two_logit: bool) -> None:
    module = heads(gate=gate, two_logit=two_logit)
    x = torch.randn(64, 6, 5, 5)
    for kind in UNITS:
        p = torch.sigmoid(module.logit(kind, module.features(x, kind)))
        assert (p - 0.870).abs().max().item() < 0.005


def test_the_initial_bias_is_the_initial_logit() -> None:
    for two_logit in (False, True):
        logit = heads(gate="independent", two_logit=two_logit, bias_init=0.7).logit("inner", None)
        torch.testing.assert_close(logit, torch.full((1, 4), 0.7))


def test_a_dependent_gate_reads_the_mean_of_each_channel() -> None:
    module = heads().eval()
    x = torch.randn(3, 6, 5, 5)
    shuffled = x.flatten(2)[:, :, torch.randperm(25)].view_as(x)
    torch.testing.assert_close(module.features(shuffled), module.features(x))
    assert module.features(x).shape == (3, 16)


def test_an_independent_gate_reads_nothing_and_answers_once_for_all() -> None:
    module = heads(gate="independent")
    assert module.features(torch.randn(3, 6, 5, 5)) is None
    assert module.logit("inner", None).shape == (1, 4)
    assert sum(p.numel() for p in module.parameters()) == 5


def test_kinds_share_their_trunk_unless_told_otherwise() -> None:
    shared, separate = heads(), heads(shared_trunk=False)
    assert shared.trunk_of("layer") == shared.trunk_of("inner")
    assert separate.trunk_of("layer") != separate.trunk_of("inner")
    x = torch.randn(8, 6, 5, 5)
    assert torch.equal(shared.features(x, "layer"), shared.features(x, "inner"))
    assert not torch.equal(separate.features(x, "layer"), separate.features(x, "inner"))
    alone = heads(units={"layer": 1}, shared_trunk=False)
    assert not alone.separate


@pytest.mark.parametrize(("two_logit", "logits"), [(False, 1), (True, 2)])
def test_macs_of_a_gate_are_those_of_its_linear_layers(two_logit: bool, logits: int) -> None:
    module = heads(channels=32, gate_hidden=8, two_logit=two_logit)
    weights = {name: p.numel() for name, p in module.named_parameters() if p.ndim == 2}
    assert module.trunk_macs() == weights["trunk.0.weight"] == 32 * 8
    assert module.unit_macs() * UNITS["inner"] == weights["heads.inner.weight"] == 8 * 4 * logits


@pytest.mark.parametrize("two_logit", [False, True])
@pytest.mark.parametrize("gate", ["dependent", "independent"])
def test_some_units_alone_have_the_logits_they_have_among_all(gate: str, two_logit: bool) -> None:
    module = heads(gate=gate, two_logit=two_logit).double().eval()
    torch.nn.init.normal_(module.heads["inner"].bias)
    features = module.features(torch.randn(5, 6, 3, 3, dtype=torch.float64))
    whole, some = module.logit("inner", features), module.logit("inner", features, (3, 1))
    torch.testing.assert_close(some[:, [1, 3]], whole[:, [1, 3]], rtol=1e-12, atol=1e-14)
    assert (some[:, [0, 2]] == 0).all()


def test_logits_are_float32_when_the_network_computes_in_half_precision() -> None:
    module = heads().to(torch.bfloat16).eval()
    features = module.features(torch.randn(2, 6, 5, 5, dtype=torch.bfloat16))
    assert module.logit("layer", features).dtype == torch.float32
    assert (
        heads().double().eval().logit("layer", torch.zeros(1, 16).double()).dtype == torch.float64
    )


@pytest.mark.parametrize(
    ("filters", "where", "group", "inner", "outer"),
    [
        (16, "inner", 4, 4, 0),
        (16, "outer", 4, 0, 4),
        (64, "both", 16, 4, 16),
        (24, "both", 16, 3, 8),
        (4, "both", 16, 1, 4),
        (5, "both", 4, 5, 1),
        (16, "both", 1, 16, 1),
    ],
)
def test_filters_are_split_into_equal_groups(
    filters: int, where: str, group: int, inner: int, outer: int
) -> None:
    config = GateConfig(
        granularity="channel", channel_where=where, channel_group=group, outer_groups=group
    )
    assert (config.inner_units(filters), config.outer_units(filters)) == (inner, outer)
    for units in (inner, outer):
        assert not units or filters % units == 0


def test_layer_gates_come_without_channel_gates() -> None:
    config = GateConfig(granularity="layer", channel_where="both")
    assert (config.gates_layers, config.inner_units(16), config.outer_units(16)) == (True, 0, 0)
    assert not GateConfig(granularity="channel").gates_layers


def test_the_default_bias_opens_what_its_doc_says() -> None:
    assert 1 / (1 + math.exp(-GateConfig().bias_init)) == pytest.approx(0.87, abs=0.005)


def test_stochastic_depth_drops_blocks_at_fixed_rates_that_fall_with_depth() -> None:
    candidate = Candidate.of(
        family("gated_resnet"),
        {"backbone": "resnet14", "gate": "survival", "survival_last": 0.4, "loss": "none"},
        1,
    )
    net = candidate.build(Task(channels=3, height=8, width=8, classes=3), 0)
    rates = [float(net.heads(i).logit("layer", None).sigmoid()) for i in range(6)]
    # 1 - l / L (1 - p_L) of Huang et al., of the layers 1 to 6
    assert rates == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert net.gate_parameters() == []
    draw = torch.zeros(6)
    for step in range(20):
        policy = net.objective(Plan(epochs=1, steps=20, seed=1)).policy(step, torch.arange(64))
        output = net(torch.zeros(64, 3, 8, 8), policy)
        draw += torch.stack([d.z_BU.mean() for d in output.decisions]).detach() / 20
    assert draw.tolist() == pytest.approx(rates, abs=0.05)


def test_stochastic_depth_is_refused_with_a_loss_that_could_move_nothing() -> None:
    candidate = Candidate.of(family("gated_resnet"), {"gate": "survival"}, 1)
    with pytest.raises(ValueError, match="gate: survival has rates that no loss moves; write loss"):
        candidate.build(Task(channels=3, height=8, width=8, classes=3), 0)
