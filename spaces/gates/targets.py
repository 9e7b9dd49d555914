"""Target open rates over a training, as fractions of its length so that they mean the same at any length.

Constant and variable targets follow Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018; bounds
on single gates Verelst and Tuytelaars, "Dynamic Convolutions: Exploiting Spatial Sparsity for Faster Inference", CVPR,
2020, whose target is constant, while each gate is held near it at first.
A variable target restarts every epoch at `target_start` and then follows the activation it is compared with.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import cos, floor, pi
from typing import Any

RELAXED = 1 / 3  # of the training, when bounds let go


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """What a target does over a training of `epochs` epochs of `steps` steps."""

    schedule: str  # constant, step, mean, ema or bounds
    end: float
    epochs: int
    steps: int
    anneal_from: float = 1.0
    anneal_step: float = 0.05
    anneal_every: float = 0.05  # fraction of the training
    start: float = 0.8
    rho: float = 0.9
    window: float = 1.0  # fraction of an epoch


class Target:
    """The target at the present step. Never carries a gradient: it is a Python float."""

    def __init__(self, plan: TargetPlan) -> None:
        self.plan = plan
        self.value = plan.end
        self.tightness = 0.0  # how narrowly gates are bounded: 1 to the target itself, 0 not at all
        self._seen: deque[float] = deque(maxlen=max(1, round(plan.window * plan.steps)))
        self.start_epoch(0)

    @property
    def final(self) -> bool:
        """Whether the target has no further to fall, so that compute is comparable from then on.

        A variable target does the same in every epoch: it counts as there from the start. One with bounds is final
        when they let go of single gates.
        """
        return self.tightness == 0 and (self.plan.schedule != "step" or self.value <= self.plan.end)

    @property
    def left(self) -> float:
        """The last target over the present one; 1 when it has no further to fall."""
        return 1.0 if self.final else self.plan.end / self.value

    def start_epoch(self, epoch: int) -> None:
        plan = self.plan
        if plan.schedule == "step":
            every = max(1, round(plan.anneal_every * plan.epochs))
            steps = floor(epoch / every)
            # rounded: 1 - 3 * 0.05 must read 0.85, not 0.8500000000000001
            self.value = max(plan.end, round(plan.anneal_from - plan.anneal_step * steps, 12))
        elif plan.schedule == "bounds":
            share = epoch / (RELAXED * plan.epochs)
            self.tightness = cos(share * pi / 2) ** 2 if share < 1 else 0.0
        elif plan.schedule in ("mean", "ema"):
            self.value = plan.start
            self._seen.clear()

    def after_step(self, activation: float) -> None:
        """Tell the activation (mean open rate) of the batch just trained."""
        if self.plan.schedule == "mean":
            self._seen.append(activation)
            self.value = sum(self._seen) / len(self._seen)
        elif self.plan.schedule == "ema":
            self.value = self.plan.rho * self.value + (1 - self.plan.rho) * activation

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "seen": list(self._seen)}

    def load(self, state: dict[str, Any]) -> None:
        self.value = float(state["value"])
        self._seen.clear()
        self._seen.extend(state["seen"])
