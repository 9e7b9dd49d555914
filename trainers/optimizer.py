"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from spaces.contract.net import DynamicNet
from spaces.contract.optimization import milestones
from spaces.contract.recipe import Recipe
from trainers.parameter_groups import parameter_groups


def optimizer(net: DynamicNet, recipe: Recipe) -> Optimizer:
    """SGD, AdamW or Adam over the groups of `parameter_groups`; `set_lr` multiplies a group's "scale" in."""
    groups = parameter_groups(net, recipe)
    # fused: one kernel for all parameters, on CPU too; small networks otherwise spend their time on launches
    if recipe.optimizer == "sgd":
        return _sgd(groups, recipe)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.adamw_lr, eps=recipe.adam_epsilon, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.adamw_lr, eps=recipe.adam_epsilon, fused=True)


def _sgd(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    nesterov = recipe.nesterov and recipe.momentum > 0
    made = torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True
    )
    if recipe.momentum:
        # the fused step fails where some parameters have momentum and others, that learn from now on, do not yet
        for group in made.param_groups:
            for parameter in group["params"]:
                made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def lr_factor(recipe: Recipe, progress: float) -> float:
    """The learning rate over its peak when `progress` of the training (0 to 1) is done: warm-up, then the schedule."""
    if progress < recipe.warmup:
        return max(progress / recipe.warmup, 0.01)
    if recipe.lr_schedule == "multistep":
        drops = milestones(recipe.lr_milestones, recipe.epochs, recipe.first_epochs)
        return float(0.1 ** sum(progress >= one for one in drops))
    return (1 + cos(pi * (progress - recipe.warmup) / (1 - recipe.warmup))) / 2


def step_lr(recipe: Recipe, step: int, steps: int, alone: int = 0) -> float:
    """The learning rate of a step, counted from 0, of so many of the training.

    In the first `alone` steps heads learn alone, at the peak; the schedule is of those that follow.
    """
    if step < alone:
        return recipe.peak_lr
    return recipe.peak_lr * lr_factor(recipe, (step - alone) / (steps - alone))


def set_lr(target: Optimizer, lr: float) -> None:
    """Set every group's learning rate to lr times the group's scale."""
    for group in target.param_groups:
        group["lr"] = lr * group["scale"]


def optimizer_tensors(source: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: "<parameter index>.<name>"."""
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, state in source.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def load_optimizer(target: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what optimizer_tensors returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    target.load_state_dict({"state": state, "param_groups": target.state_dict()["param_groups"]})
    # fused kernels pair weights and momenta by their order in memory: each must have its weight's layout
    for parameter, values in target.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
