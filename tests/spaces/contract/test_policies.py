"""Decisions from logits: sampling, thresholds, straight-through gradients.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.noise import logistic_noise
from spaces.contract.policies import AlwaysOn, Gate, Sampled, ScaledOn, Threshold, straight_through

GATE = Gate(name="block0.inner", kind="inner", block=0, units=3, offset=2, macs=1.0)
UNITS = 6


def sampled(count: int, **changes: Any) -> Sampled:
    return Sampled(
        **dict[str, Any]({"seed": 4, "step": 9, "ids_B": torch.arange(count), "units": UNITS})
        | changes
    )


def logits(count: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(count, GATE.units, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.4, 1.9])
def test_a_gate_opens_as_often_as_its_probability_at_any_temperature(
    temperature: float, logit: float
) -> None:
    n = 100_000
    policy = sampled(n, temperature=temperature)
    opened = policy.decide(GATE, torch.full((n, GATE.units), logit)).z_BU.double().mean(0)
    p = 1 / (1 + math.exp(-logit))
    assert (opened - p).abs().max().item() < 4 * math.sqrt(p * (1 - p) / n)


def test_an_image_independent_logit_is_still_drawn_per_sample() -> None:
    decision = sampled(200).decide(GATE, torch.zeros(1, GATE.units))
    assert decision.z_BU.shape == (200, GATE.units)
    assert decision.p_BU is not None
    assert decision.p_BU.shape == (1, GATE.units)
    assert ((decision.z_BU.mean(0) > 0) & (decision.z_BU.mean(0) < 1)).all()


def test_two_logits_with_two_gumbels_decide_as_their_difference_with_logistic_noise() -> None:
    n = 20_000
    generator = torch.Generator().manual_seed(0)
    off_BU, on_BU = torch.randn(2, n, GATE.units, generator=generator, dtype=torch.float64)
    gumbel_off = -torch.log(
        -torch.log(torch.rand(n, GATE.units, generator=generator, dtype=torch.float64))
    )
    noise = logistic_noise(4, 9, torch.arange(n), UNITS)[:, 2:5].double()
    two = torch.stack([off_BU + gumbel_off, on_BU + gumbel_off + noise], -1)
    one = sampled(n).decide(GATE, on_BU - off_BU)
    assert (two.argmax(-1) != one.z_BU).double().mean().item() < 1e-5
    soft = sampled(n, estimator="soft_then_hard", temperature=0.7).decide(GATE, on_BU - off_BU).z_BU
    torch.testing.assert_close(soft, (two / 0.7).softmax(-1)[..., 1], rtol=1e-10, atol=1e-12)


def test_the_units_that_are_decided_per_sample_are_known() -> None:
    assert Threshold(fixed={GATE.name: (None, 0.0, None)}).undecided(GATE) == (0, 2)
    assert Threshold().undecided(GATE) == (0, 1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_straight_through_value_is_exactly_hard(dtype: torch.dtype) -> None:
    soft = torch.rand(100_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    hard = (soft > 0.5).to(dtype)
    assert torch.equal(straight_through(hard, soft), hard)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_gradient_is_that_of_the_relaxed_sample_also_where_the_gate_is_closed(
    temperature: float,
) -> None:
    logit_BU = logits(64).requires_grad_()
    weight_BU = logits(64).flip(0)
    z_BU = sampled(64, temperature=temperature).decide(GATE, logit_BU).z_BU
    (gradient,) = torch.autograd.grad((z_BU * weight_BU).sum(), logit_BU)
    noise = logistic_noise(4, 9, torch.arange(64), UNITS)[:, 2:5].double()
    soft_BU = torch.sigmoid((logit_BU + noise) / temperature)
    (expected,) = torch.autograd.grad((soft_BU * weight_BU).sum(), logit_BU)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=0)
    assert set(z_BU.unique().tolist()) == {0.0, 1.0}
    assert (gradient[z_BU == 0] != 0).all()


def test_the_noiseless_estimator_decides_at_one_half_with_the_gradient_of_the_probability() -> None:
    logit_BU = logits(64).requires_grad_()
    z_BU = sampled(64, estimator="st", temperature=0.3).decide(GATE, logit_BU).z_BU
    assert torch.equal(z_BU, (logit_BU > 0).double())
    (gradient,) = torch.autograd.grad(z_BU.sum(), logit_BU)
    p_BU = torch.sigmoid(logit_BU)
    torch.testing.assert_close(gradient, p_BU * (1 - p_BU), rtol=1e-10, atol=0)


def test_without_noise_the_temperature_changes_no_decision() -> None:
    decisions = [
        sampled(64, noisy=False, temperature=t).decide(GATE, logits(64)).z_BU
        for t in (0.3, 1.0, 5.0)
    ]
    assert torch.equal(decisions[0], decisions[1])
    assert torch.equal(decisions[0], decisions[2])
    assert torch.equal(decisions[0], Threshold().decide(GATE, logits(64)).z_BU)


def test_noise_follows_the_sample_and_the_gate_not_the_place_in_the_batch() -> None:
    whole = sampled(10).decide(GATE, logits(10)).z_BU
    rows = torch.tensor([7, 1, 4])
    assert torch.equal(sampled(10).decide(GATE, logits(10)[rows], rows).z_BU, whole[rows])
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sampled(10, ids_B=order).decide(GATE, logits(10)[order]).z_BU, whole[order])
    moved = Gate(name="other", kind="inner", block=1, units=3, offset=3, macs=1.0)
    assert not torch.equal(sampled(10).decide(moved, logits(10)).z_BU, whole)


def test_a_threshold_is_strict() -> None:
    at_half = torch.zeros(1, GATE.units)
    assert Threshold(tau=0.5).decide(GATE, at_half).z_BU.tolist() == [[0.0, 0.0, 0.0]]
    assert Threshold(tau=0.4999).decide(GATE, at_half).z_BU.tolist() == [[1.0, 1.0, 1.0]]
    assert Threshold(tau=1.0).decide(GATE, torch.full((1, 3), 99.0)).z_BU.sum() == 0
    assert Threshold(tau=0.0).decide(GATE, torch.full((1, 3), -50.0)).z_BU.sum() == 3


def test_a_higher_threshold_opens_a_subset() -> None:
    opened = [Threshold(tau=tau / 10).decide(GATE, logits(500)).open_BU for tau in range(11)]
    assert all((higher <= lower).all() for lower, higher in pairwise(opened))
    assert opened[0].all()
    assert not opened[-1].any()


def test_a_threshold_can_differ_from_gate_to_gate() -> None:
    policy = Threshold(tau={GATE.name: 0.9, "other": 0.1})
    assert torch.equal(
        policy.decide(GATE, logits(9)).z_BU, Threshold(tau=0.9).decide(GATE, logits(9)).z_BU
    )


def test_fixed_units_keep_their_value_and_get_no_gradient() -> None:
    policy = sampled(50, fixed={GATE.name: (1.0, None, 0.0)})
    logit_BU = logits(50).requires_grad_()
    z_BU = policy.decide(GATE, logit_BU).z_BU
    assert (z_BU[:, 0] == 1).all()
    assert (z_BU[:, 2] == 0).all()
    assert torch.equal(z_BU[:, 1], sampled(50).decide(GATE, logit_BU).z_BU[:, 1])
    (gradient,) = torch.autograd.grad(z_BU.sum(), logit_BU)
    assert (gradient[:, [0, 2]] == 0).all()
    assert (gradient[:, 1] != 0).all()


def test_a_gate_is_settled_only_when_all_its_units_are() -> None:
    assert Threshold(fixed={GATE.name: (1.0, 0.0, 1.0)}).settled(GATE) == (1.0, 0.0, 1.0)
    assert Threshold(fixed={GATE.name: (1.0, None, 1.0)}).settled(GATE) is None
    assert Threshold().settled(GATE) is None
    assert AlwaysOn().settled(GATE) == (1.0, 1.0, 1.0)
    assert ScaledOn(rates={GATE.name: (0.1, 0.2, 0.3)}).settled(GATE) == (0.1, 0.2, 0.3)


def test_infinite_logits_give_finite_gradients() -> None:
    logit_BU = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    sampled(1, temperature=0.3).decide(GATE, logit_BU).z_BU.sum().backward()
    assert logit_BU.grad is not None
    assert logit_BU.grad.isfinite().all()
