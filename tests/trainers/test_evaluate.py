"""Evaluation tables and batch-norm recalibration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet, Output
from spaces.contract.policies import Policy
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.answers import Answers
from trainers.data.augment import normalized
from trainers.data.recipe_augment import changed
from trainers.data.splits import DataSpec, ImageData, load
from trainers.evaluate import BATCH, Table, batch_size, evaluate, recalibrated
from trainers.execution import Execution
from trainers.exit_logits import exit_logits
from trainers.feature_split import FeatureSplit
from trainers.metrics import ACCURACY


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=128))


@pytest.fixture
def net(digits: ImageData) -> DynamicNet:
    """A network whose gates open for some images and not for others."""
    values = {"backbone": "resnet8", "width": 0.25, "granularity": "joint"}
    task = Task(channels=1, height=8, width=8, classes=10, mean=digits.mean, std=digits.std)
    made = Candidate.of(family("gated_resnet"), values, 1).build(task, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith("gate_heads"):
                weight = 2 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(weight if parameter.ndim > 1 else weight / 8)
    made.train()
    # batch norm that has seen images lets them tell gates apart
    for batch in digits.train.batches(64):
        made((batch.images.float() / 255 - digits.mean[0]) / digits.std[0])
    return made.eval()


def answers(right_PN: list[list[bool]]) -> Answers:
    """Answers to images of class 1 that are right where it is true."""
    rows = np.array(right_PN)
    return Answers(rows.astype(int), rows, np.ones(rows.shape[1], int))


def test_which_images_are_right_is_packed_in_their_order() -> None:
    right = answers([[True, False, True, True, False, False, False, False, True]])
    assert ACCURACY.packed(right) == bytes([0b10110000, 0b10000000])


def test_passes_that_differ_have_no_one_answer_to_pack() -> None:
    assert ACCURACY.packed(answers([[True] * 3] * 2)) is None


def test_p95_is_a_cost_that_some_image_has_and_95_percent_stay_within() -> None:
    table = Table(
        answers([[True] * 100]),
        torch.arange(1.0, 101.0, dtype=torch.float64)[None],
        {},
    )
    # numpy's "higher" definition: position 0.95 * 99 = 94.05, rounded up
    assert table.macs_p95 == 96.0
    assert table.macs_max == 100.0
    assert table.macs_mean == 50.5


def test_a_table_has_the_mean_cross_entropy_of_its_answers(
    net: DynamicNet, digits: ImageData
) -> None:
    images = torch.cat([b.images for b in digits.validation.batches(50)]).float() / 255
    with torch.no_grad():
        logits = net.run((images - digits.mean[0]) / digits.std[0], Knobs()).logits_BC
    probability_N = logits.double().softmax(1)[torch.arange(len(logits)), digits.validation.labels]
    table = evaluate(net, digits.validation, digits, Knobs())
    assert table.cross_entropy == pytest.approx(float(-probability_N.log().mean()), rel=1e-4)


def test_masked_and_compact_evaluation_agree(net: DynamicNet, digits: ImageData) -> None:
    masked = evaluate(net, digits.validation, digits, Knobs())
    compact = evaluate(net, digits.validation, digits, Knobs(), compact=True)
    assert masked.cross_entropy == pytest.approx(compact.cross_entropy, rel=1e-4)
    assert torch.equal(masked.correct_PN, compact.correct_PN)
    assert torch.equal(masked.macs_PN, compact.macs_PN)


def test_mean_cost_is_the_mean_over_images_not_a_product_of_rates(
    net: DynamicNet, digits: ImageData
) -> None:
    table = evaluate(net, digits.validation, digits, Knobs())
    assert table.macs_mean == pytest.approx(float(table.macs_PN.mean()))
    assert table.macs_PN.unique().numel() > 1


def test_a_stochastic_policy_has_one_row_a_pass_and_a_deviation(
    net: DynamicNet, digits: ImageData
) -> None:
    table = evaluate(net, digits.validation, digits, Knobs(policy="stochastic", passes=3), seed=1)
    assert table.correct_PN.shape == (3, len(digits.validation))
    assert not torch.equal(table.macs_PN[0], table.macs_PN[1])


def test_an_ensemble_pays_for_every_pass(net: DynamicNet, digits: ImageData) -> None:
    one = evaluate(net, digits.validation, digits, Knobs(policy="stochastic", passes=2), seed=1)
    both = evaluate(net, digits.validation, digits, Knobs(policy="ensemble", passes=2), seed=1)
    assert both.macs_mean == pytest.approx(one.macs_mean * 2)


def norms(net: DynamicNet) -> dict[str, Tensor]:
    return {k: v for k, v in net.state_dict().items() if "running" in k}


def test_recalibration_changes_statistics_only_and_leaves_the_original_alone(
    net: DynamicNet, digits: ImageData
) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fresh = recalibrated(
        net, digits, Knobs(recalibrate="same", recalibration_batches=4), Recipe(batch=32)
    )
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    parameters = dict(fresh.named_parameters())
    assert all(torch.equal(before[k], v) for k, v in parameters.items())
    assert any(not torch.equal(before[k], v) for k, v in norms(fresh).items())


def test_batches_that_refresh_statistics_have_a_size_of_their_own(digits: ImageData) -> None:
    made = partial(Knobs, policy="always_on", recalibrate="same", recalibration_batches=1)
    net = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": 0.25}, 1).build(
        task_of(digits), 0
    )
    own = recalibrated(net, digits, made(recalibration_images=64), Recipe(batch=16))
    large, small = (recalibrated(net, digits, made(), Recipe(batch=batch)) for batch in (64, 16))
    assert torch.equal(own.bn1.running_mean, large.bn1.running_mean)
    assert not torch.equal(own.bn1.running_mean, small.bn1.running_mean)


@pytest.mark.parametrize("frozen", [True, False])
def test_recalibration_leaves_statistics_that_training_left(
    digits: ImageData, frozen: bool
) -> None:
    values = {"backbone": "test_resnet", "dynamics": "both", "exits": "light"}
    values |= {"trunk": "frozen"} if frozen else {}
    net = Candidate.of(family("timm"), values, 1).build(task_of(digits), 0)
    knobs = Knobs(recalibrate="same", recalibration_batches=1)
    fresh = recalibrated(net, digits, knobs, Recipe(batch=32, freeze_norm=not frozen))
    before, after = norms(net), norms(fresh)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("model.") for name in before)
    assert changed
    assert not any(name.startswith("model.") for name in changed)


def test_recalibrating_again_changes_nothing(net: DynamicNet, digits: ImageData) -> None:
    # gates read activations that batch norm scales, so only settled gates make the second run see the same
    knobs = Knobs(policy="always_on", recalibrate="same", recalibration_batches=4)
    once = recalibrated(net, digits, knobs, Recipe(batch=32))
    twice = recalibrated(once, digits, knobs, Recipe(batch=32))
    for name, value in norms(once).items():
        torch.testing.assert_close(norms(twice)[name], value, rtol=1e-5, atol=1e-6)


def test_recalibration_averages_are_cumulative_over_batches(digits: ImageData) -> None:
    task = Task(channels=1, height=8, width=8, classes=10, mean=digits.mean, std=digits.std)
    plain = (
        Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "gated": False}, 1)
        .build(task, 0)
        .eval()
    )
    knobs = Knobs(policy="always_on", recalibrate="same", recalibration_batches=3)
    fresh = recalibrated(plain, digits, knobs, Recipe(batch=32, augment=False))
    seen = [
        b.images.float() / 255
        for b, _ in zip(digits.train.batches(32, shuffle=0, drop_last=True), range(3), strict=False)
    ]
    x = (torch.cat(seen) - digits.mean[0]) / digits.std[0]
    stem = plain.conv1(x)
    torch.testing.assert_close(
        fresh.bn1.running_mean, stem.mean((0, 2, 3)).detach(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "recipe", [Recipe(batch=32, shift_border="zero"), Recipe(batch=32, crop="resized")]
)
def test_recalibration_changes_images_as_the_training_did(
    digits: ImageData, recipe: Recipe
) -> None:
    plain = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "gated": False}, 1).build(
        task_of(digits), 0
    )
    knobs = Knobs(policy="always_on", recalibrate="same", recalibration_batches=1)
    fresh = recalibrated(plain, digits, knobs, recipe, seed=3)
    first = next(digits.train.batches(32, shuffle=3)).images
    seen = changed(first, recipe, seed=3, step=0, flip=digits.flip)
    stem = plain.conv1(normalized(seen, digits.mean, digits.std))
    torch.testing.assert_close(fresh.bn1.running_mean, stem.mean((0, 2, 3)).detach())


def test_sampling_and_deciding_gates_recalibrate_differently(
    net: DynamicNet, digits: ImageData
) -> None:
    same = recalibrated(
        net, digits, Knobs(recalibrate="same", recalibration_batches=3), Recipe(batch=32)
    )
    drawn = recalibrated(
        net, digits, Knobs(recalibrate="sample", recalibration_batches=3), Recipe(batch=32)
    )
    assert any(
        not torch.equal(a, b)
        for a, b in zip(norms(same).values(), norms(drawn).values(), strict=True)
    )


def test_exit_logits_are_those_of_each_head_in_the_order_of_the_images(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.evaluate.BATCH", 64)
    task = Task(channels=1, height=8, width=8, classes=10, mean=digits.mean, std=digits.std)
    values = {"backbone": "resnet8", "width": 0.25, "exits": "light"}
    made = Candidate.of(family("gated_resnet"), values, 1).build(task, 0).eval()
    raw = exit_logits(made, digits.validation, digits, Knobs(policy="always_on"))
    heads = made.exit_count + 1
    assert raw.logits.shape == (heads, len(digits.validation), 10)
    assert raw.macs.shape == (heads, len(digits.validation))
    assert torch.equal(raw.labels, digits.validation.labels)
    deepest = evaluate(made, digits.validation, digits, Knobs(policy="always_on"))
    assert torch.equal(raw.logits[-1].argmax(1) == raw.labels, deepest.correct_PN[0])
    first = evaluate(
        made,
        digits.validation,
        digits,
        Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(-1.0,)),
    )
    assert torch.equal(raw.logits[0].argmax(1) == raw.labels, first.correct_PN[0])
    assert torch.equal(raw.macs[0], first.macs_PN[0])


def test_each_batch_and_each_pass_has_an_arbitrary_order_of_its_own(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"layers": 6, "dim": 32, "patch": 4}
    one = Candidate.of(family("shuffled_vit"), values, 1).build(task_of(digits), 0)
    orders: list[tuple[int, ...]] = []

    def watched(images: Tensor, policy: Policy, **_: object) -> Output:
        assert policy.order is not None
        orders.append(policy.order)
        return Output(torch.zeros(len(images), 10), (), torch.zeros(len(images)))

    monkeypatch.setattr(one, "forward", watched)
    monkeypatch.setattr("trainers.evaluate.BATCH", 8)
    knobs = Knobs(order="arbitrary", passes=2)
    evaluate(one, digits.validation, digits, knobs, seed=3)
    batches = -(-len(digits.validation) // 8)
    assert len(orders) == 2 * batches
    assert len(set(orders)) > batches
    again = list(orders)
    orders.clear()
    evaluate(one, digits.validation, digits, knobs, seed=3)
    assert orders == again


def test_on_a_cpu_a_batch_is_no_larger_than_caches_like(digits: ImageData) -> None:
    large = replace(digits, height=128, width=128)
    images, cpu = digits.validation, Execution()
    assert batch_size(images, digits, cpu) == BATCH
    assert batch_size(images, large, cpu) == 16
    assert batch_size(images, replace(digits, height=1024, width=1024), cpu) == 1
    assert batch_size(images, large, Execution(device="cuda")) == BATCH
    assert batch_size(FeatureSplit(images, []), large, cpu) == BATCH


def test_what_networks_answer_does_not_depend_on_the_size_of_batches(
    digits: ImageData, net: DynamicNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = evaluate(net, digits.validation, digits, Knobs())
    monkeypatch.setattr("trainers.evaluate.MOST_PIXELS", 3 * 64)
    apart = evaluate(net, digits.validation, digits, Knobs())
    assert (together.answers.classes_PN == apart.answers.classes_PN).all()
    assert torch.equal(together.macs_PN, apart.macs_PN)
