"""The loss of images that show more than one class, in every family's objective."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import Objective, Plan
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.truth import Truth

TASK = Task(channels=1, height=8, width=8, classes=4)
B = 12


def objective(name: str = "gated_resnet", plan: dict[str, Any] | None = None, **values: Any) -> Any:
    small = {"layers": 2, "dim": 32, "patch": 4} if "vit" in name else {"width": 0.25}
    candidate = Candidate.of(family(name), small | values, 2)
    net = candidate.build(TASK, 0).train()
    return net, net.objective(Plan(epochs=2, steps=3, **(plan or {})))


def pair() -> tuple[Tensor, Tensor, Tensor]:
    """(classes, those of the image mixed in, shares of the first)."""
    draws = torch.Generator().manual_seed(1)
    first, second = (torch.randint(0, 4, (B,), generator=draws) for _ in range(2))
    return first, second, torch.rand(B, generator=draws)


def mixture() -> Truth:
    first, second, share = pair()
    one, other = (F.one_hot(labels, 4).float() for labels in (first, second))
    return Truth(first, share[:, None] * one + (1 - share[:, None]) * other)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_mixed_images_is_the_mix_of_the_losses(smoothing: float) -> None:
    _, plain = objective(plan={"label_smoothing": smoothing})
    logits = torch.randn(B, 4)
    first, second, share = pair()
    losses = [plain.cross_entropy(logits, labels, "none") for labels in (first, second)]
    expected = share * losses[0] + (1 - share) * losses[1]
    torch.testing.assert_close(plain.cross_entropy(logits, mixture(), "none"), expected)
    torch.testing.assert_close(plain.cross_entropy(logits, mixture()), expected.mean())


def test_classes_that_are_not_mixed_cost_the_same_as_shares_with_class_weights_too() -> None:
    _, plain = objective(plan={"class_weights": (0.5, 1.0, 2.0, 0.1), "label_smoothing": 0.1})
    logits, labels = torch.randn(B, 4), pair()[0]
    whole = Truth(labels, F.one_hot(labels, 4).float())
    torch.testing.assert_close(
        plain.cross_entropy(logits, whole), plain.cross_entropy(logits, labels)
    )


def test_the_parts_of_a_batch_add_up_to_it_with_class_weights_too() -> None:
    _, plain = objective(plan={"class_weights": (0.5, 1.0, 2.0, 0.1), "label_smoothing": 0.1})
    logits, labels = torch.randn(B, 4), mixture()
    for truth in (labels.labels_B, labels):
        parts = [slice(start, start + 1) for start in range(B)]
        mean = torch.stack([plain.cross_entropy(logits[one], truth[one]) for one in parts]).mean()
        torch.testing.assert_close(plain.cross_entropy(logits, truth), mean)


NETS = [
    ("gated_resnet", {"backbone": "resnet8"}),
    ("gated_resnet", {"backbone": "resnet8", "exits": "scan", "granularity": "joint"}),
    ("gated_resnet", {"backbone": "resnet8", "exits": "light", "exit_decision": "gate"}),
    ("multi_exit", {"backbone": "resnet18", "width": 0.125, "exits": "light"}),
    ("skip_vit", {"loss": "score_sq", "exits": "cls"}),
    ("shuffled_vit", {"ls_variant": "predict"}),
]


@pytest.mark.parametrize(("name", "values"), NETS, ids=lambda value: str(value))
def test_every_objective_takes_mixed_images(name: str, values: dict[str, Any]) -> None:
    net, own = objective(name, **values)
    own.start_epoch(1)
    output = net(torch.randn(B, 1, 8, 8), own.policy(4, torch.arange(B)))
    labels = pair()[0]
    plain = own.losses(output, labels)
    whole = own.losses(output, Truth(labels, F.one_hot(labels, 4).float()))
    assert plain.keys() == whole.keys()
    for term, value in plain.items():
        torch.testing.assert_close(whole[term], value, msg=term)
    soft = own.losses(output, mixture())
    assert not torch.equal(soft["cross_entropy"], plain["cross_entropy"])
    assert isinstance(own, Objective)


def test_an_image_that_is_mixed_is_answered_rightly_by_its_share() -> None:
    logits = torch.eye(4)[:3] * 5
    shares = torch.tensor([[0.7, 0.3, 0, 0], [0.4, 0.6, 0, 0], [0.5, 0.5, 0, 0]])
    assert float(Truth(torch.tensor([0, 1, 0]), shares).right(logits)) == pytest.approx(1.3)
    assert int(Truth(torch.tensor([0, 3, 2])).right(logits)) == 2


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_distillation_takes_its_share_of_the_loss(reduction: str) -> None:
    _, taught = objective(plan={"distill": 0.3, "distill_temperature": 2.0})
    _, plain = objective()
    logits, teacher, labels = torch.randn(B, 4), torch.randn(B, 4), pair()[0]
    target = (teacher / 2).softmax(1)
    soft_B = -4 * (target * (logits / 2).log_softmax(1)).sum(1)
    soft = soft_B.mean() if reduction == "mean" else soft_B
    expected = 0.7 * plain.cross_entropy(logits, labels, reduction) + 0.3 * soft
    found = taught.cross_entropy(logits, Truth(labels, teacher_BC=teacher), reduction)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        taught.cross_entropy(logits, labels), plain.cross_entropy(logits, labels)
    )


@pytest.mark.parametrize(("name", "values"), NETS, ids=lambda value: str(value))
def test_every_answer_of_every_objective_learns_from_the_teacher(
    name: str, values: dict[str, Any]
) -> None:
    """With nothing but the teacher to learn from, the loss does not depend on the labels."""
    net, own = objective(name, {"distill": 1.0}, **values)
    own.start_epoch(1)
    output = net(torch.randn(B, 1, 8, 8), own.policy(4, torch.arange(B)))
    teacher, labels = torch.randn(B, 4), pair()[0]
    one, other = (
        own.losses(output, Truth(given, teacher_BC=teacher)) for given in (labels, 3 - labels)
    )
    for term, value in one.items():
        torch.testing.assert_close(other[term], value, msg=term)
    assert not torch.equal(own.losses(output, labels)["cross_entropy"], one["cross_entropy"])
