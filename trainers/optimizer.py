"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe

MILESTONES = (
    1 / 2,
    3 / 4,
    15 / 16,
)  # the 200/300/375 of 400 epochs that gated ResNets were published with


def optimizer(net: DynamicNet, recipe: Recipe) -> Optimizer:
    """SGD-Nesterov or AdamW over three groups: weights (decayed), biases and norms (not), gates (own rate, own decay).

    Each group keeps its learning rate's factor under "scale"; `set_lr` multiplies it in.
    """
    gates = {id(p) for p in net.gate_parameters()}
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in net.parameters():
        if id(parameter) not in gates and parameter.requires_grad:
            (weights if parameter.ndim > 1 else rest).append(parameter)
    gate_decay = recipe.weight_decay if recipe.gate_decay else 0.0
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": recipe.weight_decay, "scale": 1.0},
        {"params": rest, "weight_decay": 0.0, "scale": 1.0},
        {"params": net.gate_parameters(), "weight_decay": gate_decay, "scale": recipe.gate_lr_mult},
    ]
    groups = [group for group in groups if group["params"]]
    # fused: one kernel for all parameters, on CPU too; small networks otherwise spend their time on launches
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True, fused=True
        )
    return torch.optim.AdamW(groups, lr=recipe.adamw_lr, fused=True)


def lr_factor(recipe: Recipe, progress: float) -> float:
    """The learning rate over its peak when `progress` of the training (0 to 1) is done: warm-up, then the schedule."""
    if progress < recipe.warmup:
        return max(progress / recipe.warmup, 0.01)
    if recipe.lr_schedule == "multistep":
        return float(0.1 ** sum(progress >= milestone for milestone in MILESTONES))
    return (1 + cos(pi * (progress - recipe.warmup) / (1 - recipe.warmup))) / 2


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
