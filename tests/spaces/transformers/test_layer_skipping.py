"""What the gates of transformer layers read of the gates before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.policies import Threshold
from spaces.contract.registry import family
from spaces.gates.gated_blocks import mixed
from spaces.transformers.routed_vit import RoutedViT
from tests.spaces.transformers.vits import TASK, Draw, vit
from tests.spaces.variants import COLOUR, VARIANTS


@pytest.mark.parametrize("logit", [0.8, -0.8])
@pytest.mark.parametrize("history", ["soft", "hard", "none"])
def test_an_oracle_reads_scores_or_decisions_or_nothing_of_the_one_before_it(
    images: Callable[..., Tensor], history: str, logit: float
) -> None:
    values: dict[str, Any] = VARIANTS["skip_vit"][0] | {"dt_always": "none", "dt_history": history}
    net = Candidate.of(family("skip_vit"), values, 4).build(COLOUR, 0).double().eval()
    assert isinstance(net, RoutedViT)
    with torch.no_grad():
        for parameter in net.gate_parameters():
            parameter.zero_()
        net.oracles["0"].head.bias.fill_(logit)
        net.oracles["1"].head.bias.fill_(0.25)
        net.oracles["1"].head.weight[:, 32:] = (
            2.5  # what stands behind the class token is the history
        )
    score, decision = 1 / (1 + torch.tensor(-logit).double().exp().item()), float(logit > 0)
    heard = {"soft": 2.5 * score, "hard": 2.5 * decision, "none": 0.0}[history]
    logits = net(images(3, COLOUR), Threshold()).extra["oracle_logits"][1]
    assert logits.flatten().tolist() == pytest.approx([0.25 + heard] * 3)


def test_an_oracle_reads_the_class_token_before_it_and_the_scores_so_far() -> None:
    net = vit("skip_vit", dt_always="first")
    assert [net.oracles[f"{i}"].head.in_features for i in (1, 2, 3)] == [32 + 1, 32 + 2, 32 + 3]
    parameters = sum(p.numel() for p in net.gate_parameters())
    assert parameters == sum(32 + j + 1 for j in (1, 2, 3))
    assert (
        sum(
            p.numel()
            for p in vit("skip_vit", dt_history="none", dt_always="first").gate_parameters()
        )
        == 3 * 33
    )


def test_the_history_starts_with_the_layer_that_always_runs(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    net = scramble(vit("skip_vit", dt_always="first"))
    with torch.no_grad():
        # only the history is left: the first layer's score of 1
        net.oracles["1"].head.weight[:, :32] = 0
        net.oracles["1"].head.weight[:, 32] = 2.5
        net.oracles["1"].head.bias.fill_(0.25)
    logit = net(images(3, TASK), Threshold()).extra["oracle_logits"][0]
    torch.testing.assert_close(logit, torch.full((3, 1), 2.75, dtype=torch.float64))


@pytest.mark.parametrize(("history", "parameters"), [("soft", 384 + 3 + 1), ("none", 384 + 1 + 1)])
def test_a_shared_oracle_costs_the_same_whatever_the_depth(history: str, parameters: int) -> None:
    nets = [
        vit("skip_vit", layers=n, dim=384, head_dim=32, oracle="shared", dt_history=history)
        for n in (4, 10)
    ]
    for net in nets:
        assert sum(p.numel() for p in net.oracles.parameters()) == parameters
        assert [gate.block for gate in net.gates] == list(range(1, len(net.layers) - 1))
        assert {oracle.own_macs for oracle in net.oracles.values()} == {parameters - 1}


def test_a_shared_oracle_reads_its_depth_the_mean_score_so_far_and_the_last_one(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    net = scramble(vit("skip_vit", oracle="shared"))
    count = len(net.layers)
    with torch.no_grad():
        head = net.oracles["shared"].head
        head.weight[:, :32], head.bias[:] = 0, 0.25
        head.weight[:, 32:] = torch.tensor([3.0, 2.0, 0.5])
    first, second, *_ = net(images(3, TASK), Threshold()).extra["oracle_logits"]
    expected = 0.25 + 3 / count + 2 + 0.5  # behind the first layer, which always runs
    score = torch.sigmoid(torch.tensor(expected, dtype=torch.float64))
    then = 0.25 + 3 * 2 / count + 2 * (1 + score) / 2 + 0.5 * score
    torch.testing.assert_close(first, torch.full((3, 1), expected, dtype=torch.float64))
    torch.testing.assert_close(second, then.expand(3, 1))


def test_a_score_of_exactly_a_half_runs_the_layer(images: Draw) -> None:
    net = vit("skip_vit")
    with torch.no_grad():
        for p in net.gate_parameters():
            p.zero_()
    assert all(d.open_BU.all() for d in net(images(3, TASK), Threshold()).decisions)
    assert not any(d.open_BU.any() for d in net(images(3, TASK), Threshold(tau=0.5001)).decisions)


def _oracle_gradients(images: Draw, **values: Any) -> list[Tensor | None]:
    net = vit("skip_vit", **values).train()
    objective = net.objective(Plan(epochs=4, steps=4))
    output = net(images(8, TASK), objective.policy(3, torch.arange(8)))
    F.cross_entropy(output.logits_BC, torch.arange(8) % 5).backward()
    return [p.grad for p in net.gate_parameters()]


def test_cross_entropy_teaches_straight_through_and_scaling_oracles_but_not_literal_ones(
    images: Draw,
) -> None:
    literal = _oracle_gradients(images, dt_grad="literal", loss="score_sq")
    assert all(g is None or not g.any() for g in literal)
    for grad in ("st", "soft_scale"):
        assert all(
            g is not None and bool(g.any())
            for g in _oracle_gradients(images, dt_grad=grad, loss="score_sq")
        )


def test_the_loss_on_logits_rests_at_0_and_the_one_on_scores_always_presses() -> None:
    for name, at_zero in (("logit_sq", 0.0), ("score_sq", 0.25)):
        net = vit("skip_vit", loss=name, skip_weight=1.0)
        with torch.no_grad():
            for p in net.gate_parameters():
                p.zero_()
        net.train()
        objective = net.objective(Plan(epochs=1, steps=1))
        output = net(
            torch.randn(4, 3, 16, 16, dtype=torch.float64), objective.policy(0, torch.arange(4))
        )
        term = objective.losses(output, torch.zeros(4, dtype=torch.long))[name]
        assert float(term.detach()) == pytest.approx(at_zero)
        gradients = torch.autograd.grad(term, [oracle.head.bias for oracle in net.oracles.values()])
        assert all((float(g) == 0) == (name == "logit_sq") for g in gradients)


def test_the_exact_form_has_the_textbooks_gradient_and_no_rounding() -> None:
    torch.manual_seed(1)
    skip, run = (torch.randn(64, 9, 32, requires_grad=True) for _ in range(2))
    z = (torch.rand(64, 1, 1) < 0.5).float().requires_grad_()
    ours = mixed(skip, run, z)
    textbook = skip + z * (run - skip)
    assert torch.equal(ours, torch.where(z > 0, run, skip))
    assert not torch.equal(textbook, torch.where(z > 0, run, skip)), (
        "if this were exact the other form were not needed"
    )
    weights = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), (skip, run, z), retain_graph=True),
        torch.autograd.grad((textbook * weights).sum(), (skip, run, z)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_skipped_layers_hand_on_their_mixture(images: Draw) -> None:
    net = vit("skip_vit", aggregator="wdc", agg_init="uniform", dt_always="none")
    closed = Threshold(fixed={gate.name: (0.0,) for gate in net.gates})
    u = net.stem(images(3, TASK))
    expected = [u, u]
    for mixing in net.mixings:
        expected.append(mixing(expected)[0])
    torch.testing.assert_close(net(images(3, TASK), closed).logits_BC, net.head(expected[-1]))
