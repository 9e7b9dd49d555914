"""Weights that a training hands over: averaged, the last or the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.data.splits import DataSpec, ImageData, load
from trainers.execution import Execution
from trainers.fit import fit
from trainers.kept_weights import KeptWeights
from trainers.training import Training

VALUES = {"backbone": "resnet8", "width": 0.25, "batch": 32, "lr": 0.05}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=128))


def made(epochs: int = 3, **values: object) -> tuple[DynamicNet, Candidate]:
    candidate = Candidate.of(family("gated_resnet"), VALUES | values, epochs)
    return candidate.build(Task(channels=1, height=8, width=8, classes=10), 3), candidate


def weights(net: DynamicNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow  # timm is imported
def test_averaged_weights_follow_the_recurrence() -> None:
    net, candidate = made(ema=0.9)
    kept, expected = KeptWeights(net, candidate.recipe), net.fc.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            net.fc.weight.add_(torch.randn_like(net.fc.weight))
        kept.after_step(step)
        memory = min(0.9, 1 - (1 + step) ** (-2 / 3)) if step else 0.0
        expected = memory * expected + (1 - memory) * net.fc.weight.detach()
    live = net.fc.weight.detach().clone()
    with kept.of_this_epoch():
        assert torch.allclose(net.fc.weight, expected, atol=1e-6)
    assert torch.equal(net.fc.weight, live), "the training goes on with its own"
    kept.hand_over()
    assert torch.allclose(net.fc.weight, expected, atol=1e-6)


def test_the_best_epoch_is_kept_beside_the_last() -> None:
    net, candidate = made(kept_epoch="best")
    kept, seen = KeptWeights(net, candidate.recipe), []
    for epoch, (value, settled) in enumerate([(0.9, False), (0.5, True), (0.7, True), (0.6, True)]):
        with torch.no_grad():
            net.fc.weight.fill_(epoch + 1)
        kept.after_epoch(epoch + 1, value, 1.0, settled=settled)
        seen.append(kept.epoch)
    assert seen == [1, 2, 3, 3], "an epoch whose gates still close is none to keep"
    with kept.handed_over():
        assert float(net.fc.weight.detach().mean()) == 3
    tensors = kept.tensors()
    assert float(tensors["net.fc.weight"].mean()) == 3
    assert float(tensors["live.fc.weight"].detach().mean()) == 4


def test_the_epoch_of_least_cross_entropy_is_kept_even_where_another_is_more_accurate() -> None:
    net, candidate = made(kept_epoch="least_cross_entropy")
    kept, seen = KeptWeights(net, candidate.recipe), []
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.4), (0.7, 0.9), (0.9, 1.1), (0.8, 0.9)]):
        with torch.no_grad():
            net.fc.weight.fill_(epoch + 1)
        kept.after_epoch(epoch + 1, accuracy, loss, settled=True)
        seen.append(kept.epoch)
    assert seen == [1, 2, 2, 2]
    again = KeptWeights(net, candidate.recipe)
    again.load(kept.tensors(), kept.state())
    again.after_epoch(5, 1.0, 1.0, settled=True)
    assert again.epoch == 2, "a training that continues knows the least one so far"
    with again.handed_over():
        assert float(net.fc.weight.detach().mean()) == 2


def test_the_last_epoch_is_kept_unless_the_best_is_asked_for() -> None:
    net, candidate = made()
    kept = KeptWeights(net, candidate.recipe)
    for epoch, value in enumerate((0.9, 0.5)):
        kept.after_epoch(epoch + 1, value, 1.0, settled=True)
    assert kept.epoch == 2
    assert not [name for name in kept.tensors() if not name.startswith("net.")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept_epoch", "measure", "best"),
    [("best", "val/accuracy", max), ("least_cross_entropy", "val/cross_entropy", min)],
)
def test_a_training_hands_over_the_weights_of_its_best_epoch(
    digits: ImageData, kept_epoch: str, measure: str, best: Callable[[list[float]], float]
) -> None:
    net, candidate = made(4, kept_epoch=kept_epoch, lr=0.3, loss="none", seed=1)
    shown, values, kept = [], [], 0
    for result in fit(net, digits, candidate.recipe, seed=1):
        shown.append(weights(net))
        values.append(result.metrics[measure])
        kept = int(result.metrics["kept/epoch"])
    assert kept == values.index(best(values)) + 1
    assert same(weights(net), shown[kept - 1])


def test_heads_learn_alone_before_the_rest_does(digits: ImageData) -> None:
    net, candidate = made(2, head_epochs=1, exits="light")
    before = weights(net)
    training = Training(net, digits, candidate.recipe, 0, Execution())
    training.epoch(0)
    heads = net.head_names()
    assert any(name.startswith("exit_") for name in heads)
    for name, tensor in weights(net).items():
        new = name in heads or name.startswith(net.added)
        assert new or torch.equal(tensor, before[name]), name
    for name in ("fc.weight", "exit_heads.0.fc.weight", "gate_heads.0.heads.layer.weight"):
        assert not torch.equal(net.state_dict()[name], before[name]), name
    training.epoch(1)
    assert not torch.equal(net.conv1.weight, before["conv1.weight"])
    assert not torch.equal(net.bn1.running_mean, before["bn1.running_mean"])


def test_frozen_norms_keep_their_statistics_and_weights_while_the_rest_learns(
    digits: ImageData,
) -> None:
    net, candidate = made(1, freeze_norm=True)
    before = weights(net)
    Training(net, digits, candidate.recipe, 0, Execution()).epoch(0)
    after = weights(net)
    norms = [n for n in before if n.startswith("bn1.") or ".bn" in n]
    assert len(norms) > 20
    assert same({n: before[n] for n in norms if not n.startswith("gate_")}, after)
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])
    gates = [n for n in before if n.startswith("gate_") and n.endswith("running_mean")]
    assert gates
    assert not any(torch.equal(before[n], after[n]) for n in gates), "these are new"


@pytest.mark.parametrize("weights", [None, (5.0, *(1.0,) * 8, 0.2)])
@pytest.mark.parametrize("micro", [5, 8, 31])
def test_micro_batches_add_up_to_the_gradients_of_the_whole_batch(
    digits: ImageData, micro: int, weights: tuple[float, ...] | None
) -> None:
    found, digits = [], replace(digits, class_weights=weights)
    for size in (0, micro):
        values = {"layers": 2, "dim": 32, "patch": 4, "batch": 32, "micro_batch": size}
        candidate = Candidate.of(family("skip_vit"), values | {"loss": "none", "clip": 0.0}, 1)
        net = candidate.build(Task(channels=1, height=8, width=8, classes=10), 3)
        training = Training(net, digits, candidate.recipe, 0, Execution())
        training.optimizer.step = lambda: None  # type: ignore[method-assign,assignment]
        training.epoch(0)
        found.append({name: p.grad for name, p in net.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert gradient is not None
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)
