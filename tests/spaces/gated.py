"""What tests of gated networks share: small networks of a kind, and a policy that decides what it is told.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from spaces.contract.net import DynamicNet
from spaces.contract.policies import Decision, Gate, Policy
from spaces.contract.task import Task

Net = TypeVar("Net", bound=DynamicNet)
SMALL = Task(channels=3, height=16, width=16, classes=5)


@dataclass(frozen=True, kw_only=True)
class Told(Policy):
    """Decides what it is told: a value a sample and unit, by gate."""

    values: dict[str, Tensor]

    def decide(self, gate: Gate, logit_BU: Tensor, rows: Tensor | None = None) -> Decision:
        z_BU = self.values[gate.name]
        return Decision(gate, z_BU if rows is None else z_BU[rows], torch.sigmoid(logit_BU))


def builder(
    kind: Callable[[Any, Task], Net],
    config: type,
    small: Mapping[str, Any],
    scramble: Callable[..., DynamicNet],
) -> Callable[..., Net]:
    """Makes scrambled networks of one kind; keywords are those of its config (`small` unless given), and `task`."""

    def build(task: Task = SMALL, **overrides: Any) -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = kind(config(**{**small, **overrides}), task)
        scramble(net)
        return net

    return build
