"""Which parameters learn at which rate, and which of them decay.

Rates that fall with the depth of a layer: Howard and Ruder, "Universal Language Model Fine-tuning for Text
Classification", ACL, 2018 (discriminative fine-tuning); with one factor a layer: Bao, Dong, Piao and Wei, "BEiT",
ICLR, 2022. Layers of timm models are timm's own groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe


def parameter_groups(net: DynamicNet, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for an optimiser, one a rate: weights, biases and norms, gates. Each of the three has its own decay.

    Each group keeps its learning rate's factor under "scale".
    """
    gates = {id(p) for p in net.gate_parameters()}
    scale_of = scales(net, recipe)
    weights: dict[float, list[nn.Parameter]] = {}
    rest: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if id(parameter) not in gates and parameter.requires_grad:
            into = weights if parameter.ndim > 1 else rest
            into.setdefault(scale_of(name), []).append(parameter)
    decayed = [_group(some, recipe.weight_decay, scale) for scale, some in weights.items()]
    rest_decay = recipe.weight_decay if recipe.norm_decay else 0.0
    others = [_group(some, rest_decay, scale) for scale, some in rest.items()]
    gate_decay = recipe.weight_decay if recipe.gate_decay else 0.0
    own = _group(net.gate_parameters(), gate_decay, recipe.gate_lr_mult)
    return [group for group in (*decayed, *others, own) if group["params"]]


def scales(net: DynamicNet, recipe: Recipe) -> Callable[[str], float]:
    """The factor of a parameter's learning rate, by its name; gates are not asked for.

    layer_decay^k for the k-th layer before the answer, head_lr_mult for classifiers and exits.
    """
    depths = net.depths() if recipe.layer_decay != 1 else {}
    heads = net.head_names() if recipe.head_lr_mult != 1 or depths else set()
    last = max(depths.values(), default=0)

    def scale_of(name: str) -> float:
        if name in heads:
            return recipe.head_lr_mult
        return float(recipe.layer_decay ** (last - depths.get(name, last)))

    return scale_of


def _group(parameters: list[nn.Parameter], decay: float, scale: float) -> dict[str, Any]:
    return {"params": parameters, "weight_decay": decay, "scale": scale}
