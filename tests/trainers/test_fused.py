"""Trainings that train as one have the weights that each has when it trains alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from tests.trainers.test_fit import Memory
from trainers.data.split import Split
from trainers.data.splits import DataSpec, ImageData, load
from trainers.data.streamed import StreamedPixels
from trainers.epoch_sums import DivergedError
from trainers.execution import Execution
from trainers.fit import EpochResult, fit, rounds
from trainers.fused import Fused, FusedError, can_fuse
from trainers.stacked import Stack
from trainers.training import Training

EPOCHS = 2
Made = tuple[Candidate, DynamicNet, int]
DIFFERENT = (
    {"target": 0.3, "loss_weight": 0.5, "lr": 0.02, "target_schedule": "constant"},
    {
        "target": 0.7,
        "temperature": 0.5,
        "loss_weight": 4.0,
        "lr": 0.05,
        "target_schedule": "ema",
        "mixup": 0.4,
        "alpha_kd": 0.1,
    },
    {"target": 0.5, "loss": "mac_quad", "lr": 0.1, "clip": 1.0, "ema": 0.9, "label_smoothing": 0.1},
    {"target": 0.9, "momentum": 0.5, "bias_init": 1.0, "temperature_schedule": "exponential"},
)
NETWORKS: dict[str, dict[str, Any]] = {
    "gated_resnet": {"backbone": "resnet8", "width": 0.25},
    "gated_resnet joint": {"backbone": "resnet8", "width": 0.25, "granularity": "joint"},
    "gated_resnet lstm": {"backbone": "resnet8", "width": 0.25, "gate": "lstm"},
    "gated_resnet exits": {"backbone": "resnet8", "width": 0.25, "exits": "light"},
    "gated_resnet gated exits": {
        "backbone": "resnet8",
        "width": 0.25,
        "exits": "light",
        "exit_decision": "gate",
    },
    "gated_resnet plain": {"backbone": "resnet8", "width": 0.25, "gated": False},
    "gated_densenet": {"depth": 22, "growth": 4},
    "multi_exit": {"backbone": "resnet18", "width": 0.0625},
}


class InFloat64(Execution):
    """Trains in float64, in which rounding decides no gate."""

    def placed(self, net: DynamicNet) -> DynamicNet:
        return super().placed(net).double()

    def laid_out(self, images: torch.Tensor) -> torch.Tensor:
        return super().laid_out(images).double()


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=160, validation_limit=80))


def made(data: ImageData, name: str, *different: dict[str, Any]) -> list[Made]:
    """A candidate for each of the numbers that are different, its network, and its seed."""
    found, of = list[Made](), family(name.split()[0])
    known = {dimension.name for dimension in of.space}
    for seed, values in enumerate(different or DIFFERENT):
        own = {key: value for key, value in values.items() if key in known}
        candidate = Candidate.of(of, {"batch": 32} | NETWORKS[name] | own, EPOCHS)
        found.append((candidate, candidate.build(task_of(data), seed), seed))
    return found


def alone(data: ImageData, these: list[Made], execution: Execution) -> list[list[EpochResult]]:
    return [
        list(fit(net, data, candidate.recipe, seed=seed, execution=execution))
        for candidate, net, seed in these
    ]


class Group:
    """Trainings that go through their epochs in step, as a worker lets them."""

    def __init__(self, data: ImageData, these: list[Made], execution: Execution) -> None:
        self.fused = Fused()
        self.slots = [Memory() for _ in these]
        self.trainings = [
            Training(execution.placed(net), data, candidate.recipe, seed, execution)
            for candidate, net, seed in these
        ]
        for training, (candidate, _, _) in zip(self.trainings, these, strict=True):
            self.fused.join(training, candidate.likeness)
        self.running = [
            rounds(training, slot=slot, trained=self.fused.trained)
            for training, slot in zip(self.trainings, self.slots, strict=True)
        ]

    def epoch(self, these: list[int]) -> Iterator[EpochResult | Exception]:
        """One more epoch of these."""
        for index in these:
            assert next(self.running[index]) is None
        for index in these:
            try:
                result = next(self.running[index])
            except Exception as error:
                yield error
            else:
                assert result is not None
                yield result

    def stop(self, index: int) -> None:
        self.running[index].close()
        self.fused.leave(self.trainings[index])

    def trained(self) -> list[list[EpochResult]]:
        """All their epochs, to the end."""
        all_of_them = list(range(len(self.running)))
        found = [list(self.epoch(all_of_them)) for _ in range(EPOCHS)]
        assert [next(one, "the end") for one in self.running] == ["the end"] * len(self.running)
        return [list(one) for one in zip(*found, strict=True)]


def apart(one: DynamicNet, other: DynamicNet) -> float:
    """The largest difference between two tensors of them."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_in_float64_each_has_the_weights_and_records_that_it_has_alone(
    digits: ImageData, name: str
) -> None:
    expected, found = made(digits, name), made(digits, name)
    records = alone(digits, expected, InFloat64())
    group = Group(digits, found, InFloat64())
    assert len({one.kind for one in group.fused._members}) == 1
    fused_records = group.trained()
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        assert apart(one[1], other[1]) < 1e-10, index
        for a, b in zip(records[index], fused_records[index], strict=True):
            assert set(a.metrics) == set(b.metrics)
            same = [key for key in a.metrics if "per_second" not in key]
            assert [a.metrics[key] for key in same] == pytest.approx(
                [b.metrics[key] for key in same], abs=1e-6
            )
            assert a.gate_rates == pytest.approx(b.gate_rates)


@pytest.mark.slow
def test_steps_in_which_one_has_its_gates_held_open_run_each_by_itself(digits: ImageData) -> None:
    different = DIFFERENT[0], DIFFERENT[1] | {"open_warmup": 0.5}
    expected, found = (made(digits, "gated_resnet", *different) for _ in range(2))
    alone(digits, expected, InFloat64())
    group = Group(digits, found, InFloat64())
    assert len({one.kind for one in group.fused._members}) == 1
    group.trained()
    for one, other in zip(expected, found, strict=True):
        assert apart(one[1], other[1]) < 1e-10


def test_in_float32_the_first_steps_are_equal_but_for_rounding(digits: ImageData) -> None:
    few = replace(digits, train=digits.train.some(64))
    expected, found = (made(few, "gated_resnet joint") for _ in range(2))
    for candidate, net, seed in expected:
        next(fit(net, few, candidate.recipe, seed=seed))
    group = Group(few, found, Execution())
    assert not [one for one in group.epoch([0, 1, 2, 3]) if isinstance(one, Exception)]
    for index, one in enumerate(expected):
        group.stop(index)
        assert apart(one[1], found[index][1]) < 1e-6


@pytest.mark.slow
def test_autocast_reaches_networks_that_run_as_one(digits: ImageData) -> None:
    halves = Execution(dtype="bfloat16")
    expected, found = (made(digits, "gated_resnet", *DIFFERENT[:2]) for _ in range(2))
    alone(digits, expected, halves)
    Group(digits, found, halves).trained()
    in_full = made(digits, "gated_resnet", *DIFFERENT[:2])
    Group(digits, in_full, Execution()).trained()
    for one, other, full in zip(expected, found, in_full, strict=True):
        assert apart(one[1], other[1]) < 1.0
        assert apart(other[1], full[1]) > 1e-4, "they were computed in bfloat16"


@pytest.mark.slow
def test_one_that_is_stopped_leaves_the_others_as_they_are(digits: ImageData) -> None:
    expected, found = made(digits, "gated_resnet"), made(digits, "gated_resnet")
    alone(digits, expected, InFloat64())
    group = Group(digits, found, InFloat64())
    list(group.epoch([0, 1, 2, 3]))
    as_it_was = {name: tensor.clone() for name, tensor in found[1][1].state_dict().items()}
    group.stop(1)
    list(group.epoch([0, 2, 3]))
    for index in (0, 2, 3):
        next(group.running[index], None)
        assert apart(expected[index][1], found[index][1]) < 1e-10
    for name, tensor in found[1][1].state_dict().items():
        assert torch.equal(tensor, as_it_was[name])


@pytest.mark.slow
def test_the_last_one_that_is_left_goes_on_alone(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = (made(digits, "gated_resnet", *DIFFERENT[:2]) for _ in range(2))
    alone(digits, expected, InFloat64())
    group = Group(digits, found, InFloat64())
    list(group.epoch([0, 1]))
    group.stop(1)
    monkeypatch.setattr(Stack, "outputs", None)
    list(group.epoch([0]))
    assert apart(expected[0][1], found[0][1]) < 1e-10


@pytest.mark.slow
def test_one_that_diverges_fails_alone(digits: ImageData) -> None:
    different = DIFFERENT[0], DIFFERENT[1] | {"lr": 1e30}, DIFFERENT[2]
    expected, found = (made(digits, "gated_resnet", *different) for _ in range(2))
    with pytest.raises(DivergedError) as its_own:
        alone(digits, expected[1:2], InFloat64())
    alone(digits, [expected[0], expected[2]], InFloat64())
    group = Group(digits, found, InFloat64())
    results = list(group.epoch([0, 1, 2]))
    assert [type(one) for one in results] == [EpochResult, DivergedError, EpochResult]
    assert str(results[1]) == str(its_own.value)
    group.stop(1)
    list(group.epoch([0, 2]))
    for index in (0, 2):
        next(group.running[index], None)
        assert apart(expected[index][1], found[index][1]) < 1e-10


@pytest.mark.slow
def test_an_objective_that_raises_ends_its_own_training(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(digits, made(digits, "gated_resnet"), Execution())

    def broken(*_: object) -> None:
        raise ValueError("no such loss")

    monkeypatch.setattr(group.trainings[2].objective, "losses", broken)
    results = list(group.epoch([0, 1, 2, 3]))
    assert [type(one) for one in results] == [EpochResult, EpochResult, ValueError, EpochResult]


def test_what_cannot_run_as_one_is_told_to_all(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(digits, made(digits, "gated_resnet"), Execution())

    def broken(*_: object) -> None:
        raise RuntimeError("no batching rule\nand more")

    monkeypatch.setattr(Stack, "outputs", broken)
    results = list(group.epoch([0, 1, 2, 3]))
    assert [str(one) for one in results] == ["RuntimeError: no batching rule"] * 4
    assert {type(one) for one in results} == {FusedError}
    assert len({id(one) for one in results}) == 4


def test_one_leaves_also_where_no_memory_is_left_for_weights_of_its_own(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(digits, made(digits, "gated_resnet"), Execution())

    def full(_: Stack) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    list(group.epoch([0, 1, 2, 3]))
    with monkeypatch.context() as patched:
        patched.setattr(Stack, "release", full)
        group.stop(1)
    assert len(group.fused._members) == 3
    sizes, outputs = list[int](), Stack.outputs

    def counted(stack: Stack, *given: Any) -> Any:
        sizes.append(len(stack.nets))
        return outputs(stack, *given)

    monkeypatch.setattr(Stack, "outputs", counted)
    results = list(group.epoch([0, 2, 3]))
    assert {type(one) for one in results} == {EpochResult}
    assert set(sizes) == {3}


def test_images_that_are_decoded_each_epoch_are_not_for_several_at_once(digits: ImageData) -> None:
    group = Group(digits, made(digits, "gated_resnet"), Execution())
    streamed = object.__new__(StreamedPixels)
    training = group.trainings[0]
    assert can_fuse(training)
    train = Split(digits.train.labels, digits.train.ids, streamed)
    training.data = replace(digits, train=train)
    assert not can_fuse(training)


@pytest.mark.slow
def test_a_checkpoint_goes_on_alone(digits: ImageData) -> None:
    expected, found = made(digits, "gated_resnet"), made(digits, "gated_resnet")
    alone(digits, expected, InFloat64())
    group = Group(digits, found, InFloat64())
    list(group.epoch([0, 1, 2, 3]))
    again = made(digits, "gated_resnet")
    for (candidate, net, seed), slot in zip(again, group.slots, strict=True):
        execution = InFloat64()
        list(fit(net, digits, candidate.recipe, seed=seed, execution=execution, slot=slot))
    for one, other in zip(expected, again, strict=True):
        assert apart(one[1], other[1]) < 1e-10


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"target": 0.9, "loss": "per_gate"}, 1),
        ({"lr": 1.0, "warmup": 0.2, "augment": False, "optimizer": "adamw"}, 1),
        ({"granularity": "channel"}, 2),
        ({"width": 0.5}, 2),
        ({"gate": "independent"}, 2),
        ({"batch": 64}, 2),
        ({"micro_batch": 16}, 2),
        ({"head_epochs": 1}, 2),
        ({"freeze_norm": True}, 2),
    ],
)
def test_those_that_differ_in_numbers_alone_are_of_one_kind(
    digits: ImageData, values: dict[str, Any], kinds: int
) -> None:
    group = Group(digits, made(digits, "gated_resnet", {}, values), Execution())
    assert len({one.kind for one in group.fused._members}) == kinds


@pytest.mark.parametrize(
    "changed",
    [{"compile": True}, {"channels_last": True}, {"micro_batch": 8}, {"dtype": "float16"}],
)
def test_what_needs_a_pass_of_its_own_trains_alone(
    digits: ImageData, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda net: net)
    group = Group(digits, made(digits, "gated_resnet", {}, {}), Execution(**changed))
    assert not any(can_fuse(training) for training in group.trainings)
    assert len({one.kind for one in group.fused._members}) == 2


def test_published_targets_leave_blocks_without_gates_so_they_are_of_another_kind(
    digits: ImageData,
) -> None:
    of, common = family("gated_resnet"), {"backbone": "resnet50", "width": 0.25, "loss": "per_gate"}
    shapes = [{"target_vector": "aig50"}, {"target_vector": "constant"}]
    candidates = [Candidate.of(of, common | one, 1) for one in shapes]
    assert candidates[0].likeness == candidates[1].likeness
    fused = Fused()
    for candidate in candidates:
        net = candidate.build(task_of(digits), 0)
        training = Training(net, digits, candidate.recipe, 0, Execution())
        fused.join(training, candidate.likeness)
    assert len({one.kind for one in fused._members}) == 2
