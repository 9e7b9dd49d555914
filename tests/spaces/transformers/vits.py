"""Small transformers to test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.transformers.routed_vit import RoutedViT

TASK = Task(channels=3, height=16, width=16, classes=5)
Draw = Callable[..., Tensor]  # the fixture `images`
SMALL = {"layers": 4, "dim": 32, "head_dim": 16, "mlp_ratio": 1}


def vit(name: str, seed: int = 0, task: Task = TASK, **values: Any) -> RoutedViT:
    net = Candidate.of(family(name), SMALL | values, 4).build(task, seed)
    assert isinstance(net, RoutedViT)
    return net.double().eval()
