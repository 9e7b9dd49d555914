"""Learning-rate schedules and parameter groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.optimization import milestones
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.optimizer import lr_factor, optimizer, set_lr, step_lr


def built(**values: Any) -> tuple[DynamicNet, Recipe]:
    candidate = Candidate.of(
        family("gated_resnet"), {"backbone": "resnet8", "width": 0.25, **values}, 4
    )
    return candidate.build(Task(channels=1, height=8, width=8, classes=3), 0), candidate.recipe


@pytest.mark.parametrize(("progress", "factor"), [(0.1, 1.0), (0.55, 0.5), (1.0, 0.0)])
def test_cosine_falls_from_the_end_of_the_warm_up_to_zero(progress: float, factor: float) -> None:
    assert lr_factor(Recipe(warmup=0.1), progress) == pytest.approx(factor)


def test_warm_up_rises_linearly_and_never_from_zero() -> None:
    recipe = Recipe(warmup=0.2)
    assert lr_factor(recipe, 0.1) == pytest.approx(0.5)
    assert lr_factor(recipe, 0.0) > 0


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.49, 1.0), (0.5, 0.1), (0.75, 0.01), (0.95, 0.001)]
)
def test_multistep_divides_by_ten_at_its_milestones(progress: float, factor: float) -> None:
    assert lr_factor(Recipe(warmup=0.0, lr_schedule="multistep"), progress) == pytest.approx(factor)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_gates_have_their_own_rate_and_no_decay_unless_asked(name: str) -> None:
    net, recipe = built(optimizer=name, gate_lr_mult=2.0, weight_decay=1e-3)
    weights, rest, gates = optimizer(net, recipe).param_groups
    assert (weights["weight_decay"], rest["weight_decay"], gates["weight_decay"]) == (
        1e-3,
        0.0,
        0.0,
    )
    assert {id(p) for p in gates["params"]} == {id(p) for p in net.gate_parameters()}
    assert all(p.ndim > 1 for p in weights["params"])
    assert sum(len(g["params"]) for g in (weights, rest, gates)) == len(list(net.parameters()))
    made = optimizer(net, recipe)
    set_lr(made, 0.1)
    assert [g["lr"] for g in made.param_groups] == pytest.approx([0.1, 0.1, 0.2])


def test_milestones_of_a_multistep_schedule_are_free() -> None:
    recipe = Recipe(warmup=0.0, lr_schedule="multistep", lr_milestones="0.2+0.6")
    factors = [lr_factor(recipe, progress) for progress in (0.1, 0.3, 0.7, 0.99)]
    assert factors == pytest.approx([1.0, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("epochs", "text"), [(200, "75+130+180"), (350, "150+250"), (400, "200+300+375")]
)
def test_milestones_may_be_epochs_and_fall_on_their_first_step(epochs: int, text: str) -> None:
    recipe = Recipe(epochs=epochs, warmup=0.0, lr_schedule="multistep", lr_milestones=text)
    steps = 391  # of an epoch
    drops = [
        step
        for step in range(1, epochs * steps)
        if step_lr(recipe, step, epochs * steps) < step_lr(recipe, step - 1, epochs * steps)
    ]
    assert drops == [int(epoch) * steps for epoch in text.split("+")]


def test_milestones_in_epochs_count_those_in_which_heads_learn_alone() -> None:
    recipe = Recipe(
        epochs=10, head_epochs=2, warmup=0.0, lr_schedule="multistep", lr_milestones="6"
    )
    rates = [step_lr(recipe, epoch * 5, 50, alone=10) for epoch in range(10)]
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 4)


@pytest.mark.parametrize(
    "text", ["", "0.5+", "half", "0.7+0.5", "0.5+0.5", "0+0.5", "0.5+1", "1.5+3", "9+3"]
)
def test_milestones_that_are_no_rising_fractions_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="is no rising list of fractions of the training, or of epochs; write 0"
    ):
        milestones(text)


def test_heads_learn_alone_at_the_peak_before_the_schedule_begins() -> None:
    recipe = Recipe(lr=0.2, warmup=0.1)
    found = [step_lr(recipe, step, 30, alone=10) for step in (0, 9, 11, 12, 21)]
    assert found == pytest.approx([0.2, 0.2, 0.1, 0.2, 0.1])


@pytest.mark.parametrize(
    ("values", "kind", "momentum", "nesterov"),
    [
        ({}, torch.optim.SGD, 0.9, True),
        ({"nesterov": False}, torch.optim.SGD, 0.9, False),
        ({"momentum": 0}, torch.optim.SGD, 0, False),
        ({"optimizer": "adam"}, torch.optim.Adam, None, None),
        ({"optimizer": "adamw"}, torch.optim.AdamW, None, None),
    ],
)
def test_the_optimizer_is_the_one_that_is_named(
    values: dict[str, Any], kind: type, momentum: float | None, nesterov: bool | None
) -> None:
    made = optimizer(*built(**values))
    assert type(made) is kind
    group = made.param_groups[0]
    assert (group.get("momentum"), group.get("nesterov")) == (momentum, nesterov)


def rates(net: DynamicNet, recipe: Recipe) -> dict[str, float]:
    """The factor of each parameter's learning rate."""
    names = {id(p): name for name, p in net.named_parameters()}
    groups = optimizer(net, recipe).param_groups
    found = {names[id(p)]: group["scale"] for group in groups for p in group["params"]}
    assert set(found) == set(names.values()), "each parameter is in one group"
    return found


def test_rates_fall_by_layer_decay_with_each_layer_before_the_answer() -> None:
    net, recipe = built(layer_decay=0.5, head_lr_mult=3.0, gate_lr_mult=7.0)
    found = rates(net, recipe)  # stem, three blocks, classifier
    assert found["fc.weight"] == found["fc.bias"] == 3.0
    assert found["blocks.2.conv1.weight"] == found["blocks.2.bn2.bias"] == 0.5
    assert found["blocks.1.conv2.weight"] == 0.25
    assert found["conv1.weight"] == found["bn1.weight"] == 0.0625
    assert {value for name, value in found.items() if name.startswith("gate_")} == {7.0}


@pytest.mark.slow
def test_layers_of_a_timm_model_are_those_of_timm() -> None:
    values = {"backbone": "mobilenetv2_100", "layer_decay": 0.7}
    candidate = Candidate.of(family("timm"), values, 4)
    net = candidate.build(Task(channels=3, height=32, width=32, classes=5), 0)
    found, own = rates(net, candidate.recipe), net.model
    names = {id(p): name for name, p in own.named_parameters()}
    for group in param_groups_layer_decay(own, layer_decay=0.7):
        for parameter in group["params"]:
            assert found[f"model.{names[id(parameter)]}"] == pytest.approx(group["lr_scale"])


def test_gate_decay_decays_gates_too() -> None:
    net, recipe = built(gate_decay=True, weight_decay=1e-3)
    assert optimizer(net, recipe).param_groups[-1]["weight_decay"] == 1e-3


def test_norm_decay_decays_biases_and_norms_and_leaves_gates_alone() -> None:
    net, recipe = built(norm_decay=True, weight_decay=1e-3)
    gates = {id(p) for p in net.gate_parameters()}
    for group in optimizer(net, recipe).param_groups:
        of_gates = id(group["params"][0]) in gates
        assert group["weight_decay"] == (0.0 if of_gates else 1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_adds_the_epsilon_of_the_recipe_to_the_root_of_the_second_moment(name: str) -> None:
    net, recipe = built(
        optimizer=name, adam_epsilon=1.0, adamw_lr=0.5, weight_decay=0.0, warmup=0.0
    )
    made = optimizer(net, recipe)
    one = next(iter(net.parameters()))
    before = one.detach().clone()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    made.step()
    # the first step: both moments are corrected to the gradient and its square
    assert torch.allclose(before - one, torch.full_like(one, 0.5 * 3.0 / (3.0 + 1.0)), atol=1e-6)
