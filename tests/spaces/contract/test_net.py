"""Knobs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spaces.contract.knobs import Knobs, collapsed_gates
from spaces.contract.policies import AlwaysOn, Sampled, ScaledOn, Threshold
from spaces.families.gated_resnet import GatedResNet

Build = Callable[..., GatedResNet]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"policy": "open"},
            "policy: open is not one of threshold, always_on, scaled_on, stochastic, ensemble",
        ),
        ({"recalibrate": "yes"}, "recalibrate: yes is not one of none, sample, same"),
        ({"policy": "ensemble"}, "passes: an ensemble needs at least 2, not 1"),
    ],
)
def test_wrong_knobs_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Knobs(**wrong)


@pytest.mark.parametrize(
    "knobs",
    [
        Knobs(),
        Knobs(tau={"a": 0.3}, prune=0.01),
        Knobs(policy="always_on"),
        Knobs(policy="ensemble", passes=3),
        Knobs(policy="stochastic", passes=5, recalibrate="sample", recalibration_batches=20),
    ],
)
def test_knobs_are_rebuilt_from_their_dict(knobs: Knobs) -> None:
    assert Knobs(**knobs.as_dict()) == knobs


def test_gates_near_always_or_never_open_are_settled() -> None:
    assert collapsed_gates({"a": (0.0, 0.01, 0.02, 0.98, 0.99, 1.0)}, 0.01) == {
        "a": (0.0, 0.0, None, None, 1.0, 1.0)
    }
    assert collapsed_gates({"a": (0.0, 1e-9, 1.0)}, 0.0) == {"a": (0.0, None, 1.0)}


def test_knobs_choose_the_policy(resnet: Build) -> None:
    net, ids = resnet(), torch.arange(3)
    rates = {gate.name: (0.0,) for gate in net.gates}
    kinds = {
        "threshold": Threshold,
        "always_on": AlwaysOn,
        "scaled_on": ScaledOn,
        "stochastic": Sampled,
    }
    for name, kind in kinds.items():
        policy = net.knobs_policy(Knobs(policy=name, prune=0.1), ids=ids, rates=rates)
        assert isinstance(policy, kind)
        assert bool(policy.fixed) is (name in ("threshold", "stochastic"))


@pytest.mark.parametrize("knobs", [Knobs(prune=0.01), Knobs(policy="scaled_on")])
def test_pruning_and_scaling_need_measured_rates(resnet: Build, knobs: Knobs) -> None:
    with pytest.raises(ValueError, match="needs measured gate rates"):
        resnet().knobs_policy(knobs, ids=torch.arange(2))


def test_a_gate_scaled_by_its_rate_multiplies_what_it_guards_at_full_cost(resnet: Build) -> None:
    net = resnet(backbone="resnet8", forced_open="first_last")
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    (gate,) = net.gates
    output = net.run(x, Knobs(policy="scaled_on"), rates={gate.name: (0.25,)})
    u = net.blocks[0](net.stem(x))
    middle = net.blocks[1]
    u = torch.relu(middle.skip(u) + 0.25 * middle.residual(u))
    torch.testing.assert_close(output.logits_BC, net.head(net.blocks[2](u)), rtol=1e-10, atol=1e-12)
    assert output.macs_B.tolist() == [net.plain_macs] * 2


def test_passes_differ_in_their_draws_and_repeat_with_their_seed(resnet: Build) -> None:
    net = resnet()
    x = torch.randn(16, 3, 16, 16, dtype=torch.float64)
    knobs = Knobs(policy="stochastic")
    first, again = net.run(x, knobs, seed=1), net.run(x, knobs, seed=1)
    assert torch.equal(first.logits_BC, again.logits_BC)
    for other in (net.run(x, knobs, seed=2), net.run(x, knobs, seed=1, step=1)):
        assert not torch.equal(first.macs_B, other.macs_B)
