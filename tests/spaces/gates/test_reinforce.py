"""Gates that learn by their reward: the gradient, what a training makes of it, what cannot be had."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.policies import Decision, Gate, Sampled
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.gates.reinforce import log_probability, policy_gradient
from trainers.data.splits import DataSpec, load
from trainers.fit import fit

GATES = tuple(
    Gate(name=f"g{i}", kind="layer", block=i, units=1, offset=i, macs=1.0) for i in range(2)
)
COSTS = torch.tensor([[0.3, 2.0], [1.2, -0.7]], dtype=torch.float64)  # by what both gates say


def drawn(
    policy: Sampled, first: Tensor, second: Tensor, more: Tensor
) -> tuple[Decision, Decision]:
    """Two gates, of which the second one hears of the first."""
    ones = torch.ones(len(policy.ids_B), 1, dtype=torch.float64)
    one = policy.decide(GATES[0], first * ones)
    return one, policy.decide(GATES[1], second + more * one.z_BU)


def test_the_mean_gradient_over_many_draws_is_that_of_the_expected_cost() -> None:
    logits = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, -0.3, 0.8)]
    expected = torch.zeros((), dtype=torch.float64)
    for a, b in product((0, 1), repeat=2):
        p = torch.sigmoid(logits[0]), torch.sigmoid(logits[1] + logits[2] * a)
        chance = [q if z else 1 - q for q, z in zip(p, (a, b), strict=True)]
        expected = expected + chance[0] * chance[1] * COSTS[a, b]
    wanted = torch.stack(torch.autograd.grad(expected, logits))
    found = []
    for step in range(50):
        policy = Sampled(
            seed=1, step=step, ids_B=torch.arange(2000), units=2, estimator="reinforce"
        )
        decisions = drawn(policy, *logits)
        assert not any(one.z_BU.requires_grad for one in decisions)
        cost_B = COSTS[tuple(one.z_BU[:, 0].long() for one in decisions)]
        term = policy_gradient(cost_B, decisions)
        found.append(torch.stack(torch.autograd.grad(term, logits)))
    draws = torch.stack(found)
    error = draws.std(0) / len(draws) ** 0.5
    assert (wanted.abs() > 10 * error).any(), "the draws tell something"
    assert ((draws.mean(0) - wanted).abs() < 4 * error).all()


def test_a_gate_that_was_not_asked_has_no_probability() -> None:
    p_B1 = torch.tensor([[0.8], [0.4]])
    asked = Decision(GATES[0], torch.tensor([[1.0], [0.0]]), p_B1)
    held = Decision(GATES[1], torch.ones(1, 1), None)
    torch.testing.assert_close(log_probability([asked, held]), torch.tensor([0.8, 0.6]).log())
    assert float(policy_gradient(torch.tensor([3.0]), [held])) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gated_resnet", {"backbone": "resnet8", "width": 0.25, "lr": 0.05}),
        ("skip_vit", {"layers": 5, "dim": 16, "head_dim": 8, "patch": 2, "oracle": "shared"}),
    ],
)
def test_the_more_macs_cost_the_fewer_gates_are_open(name: str, values: dict[str, Any]) -> None:
    data = load(DataSpec(source="digits", validation=0.2, train_limit=256))
    rates = {}
    for kappa in (0.01, 30.0):
        learnt = {"estimator": "reinforce", "loss": "utility", "kappa": kappa, "batch": 32}
        more = {"bias_init": 0.5, "gate_lr_mult": 3.0, "augment": False}
        candidate = Candidate.of(family(name), {**values, **learnt, **more}, 3)
        net = candidate.build(Task(channels=1, height=8, width=8, classes=10), 0)
        *_, last = fit(net, data, candidate.recipe)
        assert "train/policy_gradient" in last.metrics
        rates[kappa] = last.metrics["train/open"]
    assert rates[30.0] < rates[0.01] - 0.2


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "gated_resnet",
            {"loss": "per_batch"},
            "loss per_batch is not; take loss utility, or none",
        ),
        ("skip_vit", {"loss": "mac_quad"}, "loss mac_quad is not; take loss utility, or none"),
        (
            "gated_resnet",
            {"loss": "utility", "exits": "light", "exit_decision": "gate"},
            "cannot teach gates of exits; take exit_decision confidence",
        ),
    ],
)
def test_what_has_no_reward_of_a_single_image_is_refused(
    name: str, values: dict[str, Any], message: str
) -> None:
    candidate = Candidate.of(family(name), {**values, "estimator": "reinforce"}, 1)
    with pytest.raises(ValueError, match=f"^estimator: reinforce .*{message}"):
        candidate.build(Task(channels=1, height=16, width=16, classes=10), 0)
