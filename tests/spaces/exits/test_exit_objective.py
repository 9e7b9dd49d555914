"""What teaches the exits.

Shapes: B images, C classes, D features, K early exits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Sampled
from spaces.contract.truth import distillation
from spaces.exits.exit_objective import feature_distance
from spaces.families.multi_exit import MultiExitNet
from tests.spaces.exits.nets import K


def test_detached_exits_learn_without_changing_the_trunk(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    for detached in (False, True):
        made = net(detach_trunk=detached)
        exits = made(images(4), AlwaysOn(exits=ExitRule(every=True))).exits
        assert exits is not None
        sum(one.sum() for one in exits.logits[:-1]).backward()
        assert (made.stem[0].weight.grad is None) == detached
        assert all(head.fc.weight.grad is not None for head in made.exit_heads)


def test_distillation_is_the_softened_cross_entropy_by_hand() -> None:
    student = torch.zeros(1, 2)
    assert distillation(student, torch.tensor([[0.0, math.log(3)]]), 1.0).item() == pytest.approx(
        math.log(2)
    )
    assert distillation(
        student, torch.tensor([[0.0, 2 * math.log(3)]]), 2.0
    ).item() == pytest.approx(4 * math.log(2))
    uneven = torch.tensor([[0.0, math.log(3)]])  # cross-entropy of (1/2, 1/2) with (1/4, 3/4)
    expected = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    assert distillation(uneven, torch.zeros(1, 2), 1.0).item() == pytest.approx(expected)


def test_a_student_that_equals_its_teacher_pays_the_teachers_entropy_and_moves_nowhere() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    loss = distillation(logits, logits, 3.0)
    p = (logits / 3).softmax(1)
    torch.testing.assert_close(loss, 9 * -(p * p.log()).sum(1).mean())
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_feature_distance_vanishes_for_equals_and_its_mean_ignores_the_batch_size() -> None:
    one, other = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    assert feature_distance(one, one, "batch_mean") == 0
    assert feature_distance(torch.zeros(2, 3), torch.full((2, 3), 2.0), "batch_mean").item() == 12
    assert feature_distance(torch.zeros(2, 3), torch.full((2, 3), 2.0), "code_sum").item() == 24
    twice = (torch.cat([one, one]), torch.cat([other, other]))
    mean, total = (feature_distance(one, other, form) for form in ("batch_mean", "code_sum"))
    torch.testing.assert_close(feature_distance(*twice, "batch_mean"), mean)
    torch.testing.assert_close(feature_distance(*twice, "code_sum"), 2 * total)
    student, teacher = one.requires_grad_(), other.requires_grad_()
    feature_distance(student, teacher, "batch_mean").backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("teacher", ["deepest", "ensemble"])
def test_what_exits_learn_from_a_teacher_teaches_the_teacher_nothing(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor], teacher: str
) -> None:
    made = net(teacher=teacher, detach_trunk=True)
    objective = made.objective(Plan(epochs=1, steps=1))
    output = made(images(4), objective.policy(0, torch.arange(4)))
    terms = objective.losses(output, torch.arange(4))
    (terms["distillation"] + terms["features"] + terms["exits"]).backward()
    teaching = {name for name, p in made.named_parameters() if p.grad is not None}
    assert teaching == {f"exit_heads.{name}" for name, _ in made.exit_heads.named_parameters()}


def test_the_losses_of_exits_are_weighted_as_configured(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(alpha_kd=0.3, kd_temperature=2.0, feature_weight=1e-3)
    labels = torch.tensor([0, 1, 2, 3])
    objective = made.objective(Plan(epochs=1, steps=1, label_smoothing=0.1))
    output = made(images(4), objective.policy(0, torch.arange(4)))
    terms = objective.losses(output, labels)
    assert output.exits is not None
    logits = [one.float() for one in output.exits.logits]
    hard = [F.cross_entropy(one, labels, label_smoothing=0.1) for one in logits]
    soft = [distillation(one, logits[-1], 2.0) for one in logits[:-1]]
    features = [one.float() for one in output.exits.features]
    assert len(features) == K + 1
    distances = [(one - features[-1]).square().sum() / 4 for one in features[:-1]]
    torch.testing.assert_close(terms["cross_entropy"], hard[-1])
    torch.testing.assert_close(terms["exits"], 0.7 * sum(hard[:-1]))
    torch.testing.assert_close(terms["distillation"], 0.3 * sum(soft))
    torch.testing.assert_close(terms["features"], 1e-3 * sum(distances))


def test_without_distillation_exits_learn_from_labels_alone(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(alpha_kd=0.0, exits="light")
    objective = made.objective(Plan(epochs=1, steps=1))
    terms = objective.losses(made(images(4), objective.policy(0, torch.arange(4))), torch.arange(4))
    assert set(terms) == {"cross_entropy", "exits"}


def test_exit_gates_are_drawn_in_training_though_no_other_gate_is(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(exits="light", exit_decision="gate")
    policy = made.objective(Plan(epochs=1, steps=1, seed=5)).policy(7, torch.arange(16))
    assert isinstance(policy, Sampled)
    assert (policy.seed, policy.step, policy.units) == (5, 7, K)
    output = made(images(16), policy)
    assert [d.gate.name for d in output.decisions] == [f"exit{k}.stay" for k in range(K)]
    assert 0 < sum(float(d.z_BU.detach().sum()) for d in output.decisions) < 16 * K
    confident = net().objective(Plan(epochs=1, steps=1)).policy(0, torch.arange(2))
    assert isinstance(confident, AlwaysOn)


def test_class_weights_weigh_the_answer_and_every_exit(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    weights = (0.5, 0.5, 0.5, 2.5, 1.0)
    labels = torch.tensor([0, 1, 2, 3])
    made = net(alpha_kd=0.0, exits="light")
    objective = made.objective(Plan(epochs=1, steps=1, class_weights=weights))
    output = made(images(4), objective.policy(0, torch.arange(4)))
    terms = objective.losses(output, labels)
    assert output.exits is not None

    def by_hand(logits: Tensor) -> Tensor:
        each = F.cross_entropy(logits.float(), labels, reduction="none")
        return (each * torch.tensor(weights)[labels]).sum() / 4

    expected = [by_hand(one) for one in output.exits.logits]
    torch.testing.assert_close(terms["cross_entropy"], expected[-1])
    torch.testing.assert_close(terms["exits"], torch.as_tensor(sum(expected[:-1])))


def test_class_weights_weigh_answers_through_gates_too(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made, labels = net(exits="light", exit_decision="gate"), torch.tensor([3, 3, 3, 3])
    policy = made.objective(Plan(epochs=1, steps=1)).policy(0, torch.arange(4))
    plain, thrice = (
        made.objective(Plan(epochs=1, steps=1, class_weights=weights)).losses(
            made(images(4), policy), labels
        )
        for weights in (None, (1.0, 1.0, 1.0, 3.0, 1.0))
    )
    torch.testing.assert_close(thrice["cross_entropy"], 3 * plain["cross_entropy"])
    torch.testing.assert_close(thrice["exits"], 3 * plain["exits"])
    torch.testing.assert_close(thrice["exit_rates"], plain["exit_rates"])
