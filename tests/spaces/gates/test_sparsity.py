"""Losses that close gates: zeros, gradients, relations, invariances.

Shapes: B samples, G gates, K exits.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spaces.contract.registry import family
from spaces.exits.exit_objective import exit_quad
from spaces.gates import sparsity
from spaces.gates.gated_blocks import GatedConfig

rates = st.lists(st.floats(0, 1), min_size=1, max_size=12)
unit = st.floats(0, 1)


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def decisions(batch: int = 8, gates: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, gates, generator=generator) > 0.4).double().requires_grad_()


def test_the_table_keeps_the_order_of_choices_that_stored_studies_have() -> None:
    assert sparsity.DRAWN == (
        "per_gate", "per_batch", "const_quad", "const_quad_per_gate", "target_free", "mac_quad", "mac_hinge",
        "lagrange", "utility", "none",
    )  # fmt: skip
    assert sparsity.EACH == ("per_gate", "const_quad_per_gate")
    of_oracles = next(d for d in family("skip_vit").space if d.name == "loss")
    assert of_oracles.choices == (
        "score_sq", "logit_sq", "per_batch", "per_gate", "const_quad", "const_quad_per_gate", "mac_quad", "mac_hinge",
        "lagrange", "utility", "target_free", "none",
    )  # fmt: skip


def test_every_loss_of_the_table_is_a_number_made_of_what_it_takes_and_of_dimensions_that_exist() -> (
    None
):
    names = {field.name for field in fields(GatedConfig)}
    for name, loss in sparsity.LOSSES.items():
        needed = (loss.weight, loss.channel_weight, loss.start, *loss.options)
        assert {one for one in needed if one} <= names, name
        if loss.function is None:
            assert not loss.targeted, name
            continue
        measured = tensor([0.7]).mean() if loss.takes == "mean" else tensor([0.6, 0.8])
        value = loss.function(measured, 0.5) if loss.targeted else loss.function(measured)
        assert value.shape == (), name
        assert value.item() > 0, name


@given(rates, unit)
def test_per_gate_is_per_batch_plus_the_spread_between_gates(values: list[float], t: float) -> None:
    m_G = tensor(values)
    spread = m_G.var(correction=0)
    expected = sparsity.per_batch(m_G.mean(), t) + spread
    torch.testing.assert_close(sparsity.per_gate(m_G, t), expected, rtol=1e-10, atol=1e-14)


def test_per_batch_is_zero_exactly_on_target_whatever_the_single_gates_do() -> None:
    assert sparsity.per_batch(tensor([0.0, 1.0]).mean(), 0.5).item() == 0
    assert sparsity.per_gate(tensor([0.0, 1.0]), 0.5).item() == 0.25
    assert sparsity.per_batch(tensor([0.6]).mean(), 0.5).item() == pytest.approx(0.01)
    assert sparsity.per_batch(tensor([0.4]).mean(), 0.5).item() == pytest.approx(0.01)
    assert sparsity.per_gate(tensor([0.5, 0.5]), 0.5).item() == 0


def test_per_batch_pulls_every_decision_alike() -> None:
    z_BG = decisions()
    m = z_BG.mean(0).mean()
    (gradient,) = torch.autograd.grad(sparsity.per_batch(m, 0.3), z_BG)
    torch.testing.assert_close(gradient, torch.full_like(z_BG, 2 * (m.item() - 0.3) / z_BG.numel()))


@given(unit, unit)
def test_const_quad_presses_above_the_target_only(rate: float, t: float) -> None:
    m = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
    loss = sparsity.const_quad(m, t)
    (gradient,) = torch.autograd.grad(loss, m)
    if rate <= t:
        assert (loss.item(), gradient.item()) == (0, 0)
    else:
        assert loss.item() == sparsity.per_batch(m, t).item()
        assert gradient.item() == pytest.approx(2 * (rate - t))


def test_const_quad_and_its_slope_are_continuous_at_the_target() -> None:
    for step in (1e-3, 1e-6):
        m = torch.tensor(0.5 + step, dtype=torch.float64, requires_grad=True)
        loss = sparsity.const_quad(m, 0.5)
        (gradient,) = torch.autograd.grad(loss, m)
        assert loss.item() == pytest.approx(step**2)
        assert gradient.item() == pytest.approx(2 * step)


def test_bounds_are_the_target_itself_at_first_and_nothing_in_the_end() -> None:
    m_L, t_L = tensor([0.1, 0.5, 0.9]), tensor([0.4] * 3)
    torch.testing.assert_close(sparsity.bounds(m_L, t_L, 1.0), sparsity.per_gate(m_L, 0.4))
    # within [0.2, 0.7]
    assert sparsity.bounds(m_L, t_L, 0.5).item() == pytest.approx((0.1**2 + 0 + 0.2**2) / 3)
    assert sparsity.bounds(tensor([0.0, 1.0]), t_L[:2], 0.0).item() == 0


def test_const_quad_per_gate_counts_only_gates_above_their_target() -> None:
    loss = sparsity.const_quad_per_gate(tensor([0.9, 0.2, 0.5]), tensor([0.5, 0.5, 0.5]))
    assert loss.item() == pytest.approx(0.16 / 3)
    assert sparsity.const_quad_per_gate(tensor([0.1, 0.5]), 0.5).item() == 0


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=5))
def test_exits_are_pressed_only_when_too_few_images_leave(pairs: list[tuple[float, float]]) -> None:
    rate_K, t_K = tensor([a for a, _ in pairs]).requires_grad_(), tensor([b for _, b in pairs])
    loss = exit_quad(rate_K, t_K)
    (gradient,) = torch.autograd.grad(loss, rate_K)
    assert (gradient <= 0).all()
    assert torch.equal(gradient < 0, (t_K > rate_K).detach())
    if (rate_K >= t_K).all():
        assert loss.item() == 0
    opposite = sparsity.const_quad_per_gate(rate_K, t_K) + loss
    torch.testing.assert_close(opposite, sparsity.per_gate(rate_K, t_K), rtol=1e-10, atol=1e-14)


def test_exits_below_their_target_have_a_positive_loss() -> None:
    assert exit_quad(tensor([0.1, 0.9]), 0.3).item() == pytest.approx(0.02)


def test_target_free_is_zero_only_when_all_gates_are_closed() -> None:
    assert sparsity.target_free(tensor([0.0, 0.0])).item() == 0
    assert sparsity.target_free(tensor([0.0, 0.1])).item() > 0
    assert sparsity.target_free(tensor([0.5, 1.0]), "sum").item() == 1.25
    assert sparsity.target_free(tensor([0.5, 1.0]), "mean").item() == 0.625


def test_target_free_presses_each_decision_by_its_gates_rate() -> None:
    z_BG = decisions()
    batch, gates = z_BG.shape
    (gradient,) = torch.autograd.grad(sparsity.target_free(z_BG.mean(0)), z_BG)
    torch.testing.assert_close(
        gradient, (2 * z_BG.mean(0) / (gates * batch)).expand(batch, -1).detach()
    )


def test_a_batch_seen_twice_has_the_same_loss() -> None:
    z_BG = decisions()
    once, twice = z_BG.mean(0), z_BG.repeat(2, 1).mean(0)
    assert torch.equal(sparsity.target_free(once), sparsity.target_free(twice))
    torch.testing.assert_close(sparsity.per_gate(once, 0.3), sparsity.per_gate(twice, 0.3))


def test_counting_forced_gates_in_the_denominator_weakens_the_loss_by_their_share() -> None:
    m_G = tensor([0.3, 0.9, 0.6])
    clean, published = sparsity.per_gate(m_G, 0.5), sparsity.per_gate(m_G, 0.5, denominator=5)
    torch.testing.assert_close(published, clean * 3 / 5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda m: sparsity.per_gate(m, 0.4),
        lambda m: sparsity.per_batch(m.mean(), 0.4),
        lambda m: sparsity.const_quad(m.mean(), 0.4),
        lambda m: sparsity.const_quad_per_gate(m, 0.4),
        lambda m: sparsity.target_free(m),
        lambda m: sparsity.mac_quad(m, 0.4),
        lambda m: sparsity.mac_hinge(m, 0.4),
        lambda m: exit_quad(m, 0.7),
    ],
)
def test_two_shards_with_averaged_means_lose_what_the_whole_batch_does(loss: object) -> None:
    assert callable(loss)
    z_BG = decisions(batch=10).detach()
    shards = [shard.mean(0) for shard in z_BG.split(5)]
    torch.testing.assert_close(
        loss(torch.stack(shards).mean(0)), loss(z_BG.mean(0)), rtol=1e-10, atol=0
    )
    apart = sum(loss(shard) for shard in shards) / 2
    assert float(apart) >= float(loss(z_BG.mean(0))) - 1e-12


def test_mac_losses_compare_the_mean_over_images() -> None:
    fraction_B = tensor([0.2, 0.8, 0.8])
    assert sparsity.mac_quad(fraction_B, 0.5).item() == pytest.approx(0.01)
    assert sparsity.mac_hinge(fraction_B, 0.5).item() == pytest.approx(0.01)
    assert sparsity.mac_quad(fraction_B, 0.7).item() == pytest.approx(0.01)
    assert sparsity.mac_hinge(fraction_B, 0.7).item() == 0


@given(st.sampled_from(["constant", "ramp_up", "ramp_down"]), unit, st.integers(1, 60))
def test_a_target_vector_keeps_its_mean_and_stays_a_rate(shape: str, t: float, gates: int) -> None:
    vector = sparsity.target_vector(shape, t, gates)
    assert len(vector) == gates
    assert sum(vector) / gates == pytest.approx(t, abs=1e-12)
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in vector)
    assert vector == sorted(vector, reverse=shape == "ramp_down")


def test_a_ramp_goes_half_as_far_as_rates_allow() -> None:
    assert sparsity.target_vector("ramp_up", 0.6, 3) == pytest.approx([0.4, 0.6, 0.8])
    assert sparsity.target_vector("ramp_down", 0.6, 3) == pytest.approx([0.8, 0.6, 0.4])
    assert sparsity.target_vector("constant", 0.6, 2) == [0.6, 0.6]
