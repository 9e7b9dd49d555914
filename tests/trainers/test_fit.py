"""The training loop: it learns, it resumes exactly, it says why it stopped."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.checkpoints import Checkpoints
from trainers.data.splits import DataSpec, ImageData, load
from trainers.epoch_sums import DivergedError
from trainers.execution import Execution
from trainers.fit import EpochResult, fit

TINY = {"backbone": "resnet8", "width": 0.25, "batch": 32, "lr": 0.05}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=160))


@dataclass
class Memory:
    """A checkpoint slot in memory that can be cut off after some epochs."""

    saved: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    history: list[int] = field(default_factory=list)

    def save(
        self, tensors: dict[str, Tensor], state: dict[str, Any], shared: Collection[str] = ()
    ) -> None:
        self.saved = ({k: v.clone() for k, v in tensors.items()}, copy.deepcopy(state))
        self.history.append(state["epochs_done"])

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved


def made(data: ImageData, epochs: int = 4, **values: Any) -> tuple[DynamicNet, Candidate]:
    candidate = Candidate.of(family("gated_resnet"), TINY | values, epochs)
    task = Task(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=10,
        mean=data.mean,
        std=data.std,
    )
    return candidate.build(task, 3), candidate


@pytest.mark.parametrize("augment", [True, False])
def test_a_network_learns_from_images_of_the_size_that_it_is_tested_on(augment: bool) -> None:
    spec = DataSpec(
        source="digits", train_limit=64, validation_limit=32, image_size=16, crop_pct=0.8
    )
    data = load(spec)
    assert next(data.train.batches(1)).images.shape[2:] == (20, 20)
    net, candidate = made(data, epochs=1, augment=augment)
    sizes = set()
    net.register_forward_pre_hook(lambda _, inputs: sizes.add(tuple(inputs[0].shape[2:])))
    list(fit(net, data, candidate.recipe, seed=1))
    assert sizes == {(16, 16)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {
            "target_schedule": "ema",
            "loss": "per_batch",
            "norm_decay": True,
            "shift_border": "zero",
            "lr_schedule": "multistep",
            "lr_milestones": "1+3",
        },
        {"granularity": "joint", "target_schedule": "step", "anneal_every": 0.2, "clip": 1.0},
        {
            "optimizer": "adamw",
            "target_schedule": "mean",
            "loss": "const_quad",
            "temperature_schedule": "exponential",
        },
        {
            "gate": "independent",
            "estimator": "soft_then_hard",
            "open_warmup": 0.3,
            "loss": "mac_hinge",
        },
        {"head_epochs": 3, "ema": 0.9, "micro_batch": 12, "layer_decay": 0.7, "nesterov": False},
        {"kept_epoch": "best", "ema": 0.9, "optimizer": "adam", "freeze_norm": True},
        {"crop": "resized", "auto_augment": "rand", "mixup": 0.4, "cutmix": 1.0, "erasing": 0.3},
        {"auto_augment": "trivial", "cutmix": 1.0, "exits": "light", "micro_batch": 20},
        {
            "kept_epoch": "least_cross_entropy",
            "momentum": 0,
            "lr_schedule": "multistep",
            "clip": 0.5,
        },
    ],
    ids=[
        "ema",
        "joint step",
        "adamw mean",
        "independent warm-up",
        "heads first",
        "best average",
        "mixed",
        "mixed exits",
        "least cross-entropy",
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    digits: ImageData, values: dict[str, Any]
) -> None:
    whole, candidate = made(digits, **values)
    records = list(fit(whole, digits, candidate.recipe, seed=5, slot=Memory()))
    slot = Memory()
    first, _ = made(digits, **values)
    for result in fit(first, digits, candidate.recipe, seed=5, slot=slot):
        if result.epoch == 2:
            break
    second, _ = made(digits, **values)
    torch.rand(7)  # a different place in the global generator must not matter
    rest = list(fit(second, digits, candidate.recipe, seed=5, slot=slot))
    assert [r.epoch for r in rest] == [2, 3, 4], (
        "the last record comes again, for it may have been lost"
    )
    assert _timeless(rest[0]) == _timeless(records[1])
    assert [_timeless(r) for r in rest[0].before] == [_timeless(records[0])]
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert _timeless(rest[-1]) == _timeless(records[-1])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resuming_in_channels_last_is_exact_though_checkpoints_are_contiguous(
    digits: ImageData, tmp_path: Path, optimizer: str
) -> None:
    checkpoints, execution = Checkpoints(tmp_path), Execution(channels_last=True)

    @dataclass
    class Stored:
        key: str

        def save(
            self, tensors: dict[str, Tensor], state: dict[str, Any], shared: Collection[str] = ()
        ) -> None:
            checkpoints.save(self.key, tensors, state, shared)

        def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
            return checkpoints.load(self.key)

    whole, candidate = made(digits, epochs=3, width=0.5, optimizer=optimizer)
    list(fit(whole, digits, candidate.recipe, seed=5, execution=execution))
    first, _ = made(digits, epochs=3, width=0.5, optimizer=optimizer)
    training = fit(first, digits, candidate.recipe, seed=5, execution=execution, slot=Stored("k"))
    next(training)
    training.close()
    second, _ = made(digits, epochs=3, width=0.5, optimizer=optimizer)
    list(fit(second, digits, candidate.recipe, seed=5, execution=execution, slot=Stored("k")))
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def _timeless(result: EpochResult) -> dict[str, float]:
    return {
        k: v for k, v in result.metrics.items() if k != "train/images_per_second"
    } | result.gate_rates


@pytest.mark.slow
def test_training_learns_and_reports_every_gate(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=12, lr=0.1, width=0.5, target=0.9)
    results = list(fit(net, digits, candidate.recipe))
    assert [r.epoch for r in results] == list(range(1, 13))
    assert (
        results[-1].metrics["train/cross_entropy"] < 0.7 * results[0].metrics["train/cross_entropy"]
    )
    assert set(results[-1].gate_rates) == {gate.name for gate in net.gates}
    assert not net.training


def test_the_loss_is_the_sum_of_its_reported_terms(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=1, granularity="joint")
    result = next(iter(fit(net, digits, candidate.recipe)))
    terms = {k: v for k, v in result.metrics.items() if k.startswith("train/") and k.count("_")}
    terms.pop("train/images_per_second")
    assert set(terms) == {"train/cross_entropy", "train/per_batch_layer", "train/per_batch_channel"}
    assert result.metrics["train/loss"] == pytest.approx(sum(terms.values()))


def test_a_loss_that_is_not_finite_ends_the_training_with_epoch_and_cause(
    digits: ImageData,
) -> None:
    net, candidate = made(digits, epochs=2)
    with torch.no_grad():
        net.fc.weight.fill_(float("inf"))
    with pytest.raises(
        DivergedError, match=r"epoch 1: cross entropy is not finite; a lower learning rate"
    ) as caught:
        list(fit(net, digits, candidate.recipe))
    assert caught.value.epoch == 1


def test_training_leaves_the_global_random_state_alone(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=1)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    list(fit(net, digits, candidate.recipe))
    assert torch.equal(torch.rand(3), expected)


def test_a_caller_that_asks_no_more_has_stopped_the_training(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=4)
    slot = Memory()
    training = fit(net, digits, candidate.recipe, slot=slot)
    next(training)
    training.close()
    assert slot.history == [1]


def test_a_finished_training_resumes_to_its_last_record(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=1)
    slot = Memory()
    list(fit(net, digits, candidate.recipe, slot=slot))
    again, _ = made(digits, epochs=1)
    assert [r.epoch for r in fit(again, digits, candidate.recipe, slot=slot)] == [
        candidate.recipe.epochs
    ]
    assert torch.equal(again.fc.weight, net.fc.weight)


@pytest.mark.slow
def test_bfloat16_and_channels_last_train_too(digits: ImageData) -> None:
    net, candidate = made(digits, epochs=1, width=0.5)
    execution = Execution(dtype="bfloat16", channels_last=True)
    result = next(iter(fit(net, digits, candidate.recipe, execution=execution)))
    assert 0 < result.metrics["train/cross_entropy"] < 5
    assert net.fc.weight.dtype == torch.float32


@pytest.mark.slow
def test_a_per_batch_target_is_reached() -> None:
    data = load(DataSpec(source="digits", validation=0.2, train_limit=320))
    net, candidate = made(
        data, epochs=10, loss="per_batch", target=0.5, loss_weight=10.0, gate_lr_mult=10.0, lr=0.1
    )
    results = list(fit(net, data, candidate.recipe))
    assert abs(results[-1].metrics["train/open"] - 0.5) < 0.12


@pytest.mark.slow
def test_a_distilled_training_resumes_exactly_and_leaves_its_teacher_as_it_is(
    digits: ImageData,
) -> None:
    values = {"distill": 0.7, "mixup": 0.4, "micro_batch": 20, "exits": "light"}
    teacher = made(digits)[1].baseline().build(made(digits)[0].task, 1)
    before = copy.deepcopy(teacher.state_dict())
    whole, candidate = made(digits, 2, **values)
    list(fit(whole, digits, candidate.recipe, seed=5, teacher=teacher))
    slot = Memory()
    training = fit(
        made(digits, 2, **values)[0], digits, candidate.recipe, seed=5, slot=slot, teacher=teacher
    )
    next(training)
    training.close()
    second, _ = made(digits, 2, **values)
    list(fit(second, digits, candidate.recipe, seed=5, slot=slot, teacher=teacher))
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())
    alone, plain = made(digits, 2, **(values | {"distill": 0.0}))
    list(fit(alone, digits, plain.recipe, seed=5))
    assert not torch.equal(alone.fc.weight, whole.fc.weight)


def test_a_training_without_the_teacher_that_it_needs_is_refused(digits: ImageData) -> None:
    net, candidate = made(digits, distill=0.5)
    with pytest.raises(ValueError, match=r"^distill: there is no teacher to learn from"):
        next(fit(net, digits, candidate.recipe))
