"""Classifiers that are new on trained weights: they start at zero.

A random one answers surely and wrongly, and its gradients spoil the trained weights below it before it has learned
anything. After Kolesnikov, Beyer, Zhai, Puigcerver, Yung, Gelly and Houlsby, "Big Transfer (BiT): General Visual
Representation Learning", ECCV, 2020.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def start_at_zero(net: nn.Module, layers: Iterable[str]) -> None:
    """Set weights and biases of these layers of the network to 0; norms among them stay."""
    for name in layers:
        layer = net.get_submodule(name)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
