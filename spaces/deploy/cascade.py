"""A cascade of trained networks as one module that is shipped: each member runs for the images that come to it.

It takes images of the largest member's size, and makes those of the others from them.

Shapes: B images, A images still in, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spaces.contract.cascades import CASCADE, CascadeRule
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.task import Task
from spaces.deploy import generic
from spaces.deploy.generic import Deployed
from spaces.deploy.resized import resized
from spaces.deploy.thresholds import Values

SMALLEST = 1e-30  # probability, whose logarithm is finite


class DeployedCascade(nn.Module):
    """A classifier of pixels in [0, 1]: members one after another, an image leaves at the first one that is sure."""

    def __init__(self, members: Sequence[Deployed], rule: CascadeRule) -> None:
        super().__init__()
        if len(members) != len(rule.thresholds) + 1:
            raise ValueError(
                f"{len(members)} members with {len(rule.thresholds)} thresholds; each but the last has one"
            )
        self.members, self.rule = nn.ModuleList(members), rule
        tasks = [member.task for member in members]
        largest = max(tasks, key=lambda task: task.height * task.width)
        # members normalise pixels themselves
        self.task: Task = replace(largest, mean=(0.0,), std=(1.0,))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, C) of pixels (B, channels, H, W) in [0, 1]."""
        return self.run(pixels)[0]

    @property
    def thresholds(self) -> dict[str, float]:
        """Those below which an image goes on, by name: `member0` and so on."""
        return {f"member{k}": value for k, value in enumerate(self.rule.thresholds)}

    def run(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and the MACs (B,) that each image took; `thresholds` (T,) are other ones than its own."""
        levels = self.rule.thresholds if thresholds is None else thresholds
        logits_BC, macs_B = self._member(0).run(self._images(0, pixels))
        macs_B = macs_B.double().expand(len(pixels)).clone()
        answered_BC, rows = logits_BC.softmax(1), torch.arange(len(pixels), device=pixels.device)
        for k in range(1, len(self.members)):
            rows = rows[self.rule.goes_on(levels[k - 1], answered_BC[rows])]
            if not len(rows):
                break
            logits_AC, macs_A = self._member(k).run(self._images(k, pixels[rows]))
            answered_BC[rows] = self.rule.answer(k, answered_BC[rows], logits_AC.softmax(1))
            macs_B[rows] += macs_A
        return answered_BC.clamp_min(SMALLEST).log(), macs_B

    def masked(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """What `run` gives, with everything computed and chosen afterwards: the form that exporters can trace."""
        levels = self.rule.thresholds if thresholds is None else thresholds
        logits_BC, macs_B = self._member(0).masked(self._images(0, pixels))
        answered_BC = logits_BC.softmax(1)
        macs_B, on_B = macs_B.double(), torch.ones_like(macs_B, dtype=torch.bool)
        for k in range(1, len(self.members)):
            on_B = on_B & self.rule.goes_on(levels[k - 1], answered_BC)
            logits_BC, more_B = self._member(k).masked(self._images(k, pixels))
            now_BC = self.rule.answer(k, answered_BC, logits_BC.softmax(1))
            answered_BC = torch.where(on_B[:, None], now_BC, answered_BC)
            macs_B = torch.where(on_B, macs_B + more_B, macs_B)
        return answered_BC.clamp_min(SMALLEST).log(), macs_B

    def description(self) -> dict[str, Any]:
        """What must be known beside the weights to build it again; each member's family and config are added there."""
        return {
            "deployed": CASCADE,
            "rule": self.rule.rule,
            "thresholds": list(self.rule.thresholds),
            "committee": self.rule.committee,
        }

    def descriptions(self) -> list[dict[str, Any]]:
        """Of the members, in their order."""
        return [self._member(k).description() for k in range(len(self.members))]

    @property
    def dynamic(self) -> bool:
        """Whether what is computed depends on the image; it does."""
        return True

    @property
    def fixed(self) -> dict[str, Any]:
        """Gates that are settled for good, of no member as a whole."""
        return {}

    def gate_counts(self) -> dict[str, int]:
        """Gate units of all members that decide per image, and those that were settled open and closed."""
        each = [self._member(k).gate_counts() for k in range(len(self.members))]
        return {name: sum(one[name] for one in each) for name in each[0]}

    def _images(self, member: int, pixels: Tensor) -> Tensor:
        task = self._member(member).task
        return resized(pixels, task.height, task.width)

    def _member(self, number: int) -> Deployed:
        member = self.members[number]
        assert isinstance(member, Deployed)
        return member


def deploy(
    nets: Sequence[DynamicNet],
    knobs: Sequence[Knobs],
    rates: Sequence[Mapping[str, tuple[float, ...]]],
    rule: CascadeRule,
) -> DeployedCascade:
    """Copies of the trained networks under their knobs, joined. Raises ValueError for knobs that draw at random."""
    each = zip(nets, knobs, rates, strict=True)
    return DeployedCascade(
        [generic.deploy(net, [(own, open_rates)]) for net, own, open_rates in each], rule
    )
