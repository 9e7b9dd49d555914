"""Learning-rate schedules and parameter groups."""

from __future__ import annotations

from typing import Any

import pytest

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.optimizer import lr_factor, optimizer, set_lr


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


def test_gate_decay_decays_gates_too() -> None:
    net, recipe = built(gate_decay=True, weight_decay=1e-3)
    assert optimizer(net, recipe).param_groups[-1]["weight_decay"] == 1e-3
