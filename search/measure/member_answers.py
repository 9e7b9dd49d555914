"""What a training answers to the validation images, kept so that it can become a member of a cascade.

Shapes: P operating points, N images, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from search.front.eligible import repeatable
from search.front.pareto import front
from search.report.front_points import thinned
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from storage.records import OperatingPoint
from trainers.data.splits import ImageData
from trainers.evaluate import recalibrated
from trainers.execution import Execution
from trainers.exit_logits import ExitLogits, exit_logits
from trainers.logits import image_logits

logger = logging.getLogger(f"dynafront.{__name__}")

MOST_POINTS = 6  # of a training
MOST_VALUES = 2**25  # logits of a training: 64 MiB as float16
LARGEST = 6e4  # that float16 can hold


@dataclass(frozen=True)
class MemberAnswers:
    """Logits (P, N, C) float16 and MACs (P, N) of some operating points, by their knobs; the labels (N,)."""

    knobs: tuple[dict[str, Any], ...]
    logits: Tensor
    macs: Tensor
    labels: Tensor


def member_answers(
    net: DynamicNet,
    data: ImageData,
    points: Sequence[OperatingPoint],
    recipe: Recipe,
    *,
    execution: Execution,
    seed: int,
) -> MemberAnswers | None:
    """The answers at the points of the training's own front, as many as there is room for; None where for none.

    Points whose answers depend on a random draw are left out. Of more points than are kept, those stay that are spread
    evenly over the front, its ends among them.
    """
    images, classes = len(data.validation), len(data.classes)
    room = min(MOST_POINTS, MOST_VALUES // (images * classes))
    chosen = thinned(front(repeatable(points)), room) if room else []
    if not chosen:
        logger.info("answers to %d images of %d classes are not kept", images, classes)
        return None
    passes = _Passes(net, data, recipe, execution, seed)
    logits, macs = [], []
    for point in chosen:
        logits_NC, macs_N = passes.answers(point)
        logits.append(logits_NC.clamp(-LARGEST, LARGEST).half())
        macs.append(macs_N.float())
    labels = data.validation.labels.cpu()
    return MemberAnswers(
        tuple(dict(p.knobs) for p in chosen), torch.stack(logits), torch.stack(macs), labels
    )


@dataclass
class _Passes:
    """Passes over validation: one for all points that differ in where images leave by thresholds alone."""

    net: DynamicNet
    data: ImageData
    recipe: Recipe
    execution: Execution
    seed: int
    _every: dict[str, ExitLogits] = field(default_factory=dict)

    def answers(self, point: OperatingPoint) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and MACs (N,) at a point."""
        knobs, split, data = Knobs(**point.knobs), self.data.validation, self.data
        rule = knobs.exits()
        if rule is None or rule.every or knobs.recalibrate != "none":
            return image_logits(
                self._refreshed(knobs),
                split,
                data,
                knobs,
                execution=self.execution,
                rates=point.rates,
            )
        open_exits = knobs.without_exits()
        key = str(open_exits.as_dict())
        if key not in self._every:
            self._every[key] = exit_logits(
                self.net, split, data, open_exits, execution=self.execution, rates=point.rates
            )
        return self._every[key].under(rule)

    def _refreshed(self, knobs: Knobs) -> DynamicNet:
        """The network with the batch-norm statistics that the knobs ask for."""
        if knobs.recalibrate == "none":
            return self.net
        return recalibrated(
            self.net,
            self.data,
            knobs,
            self.recipe,
            execution=self.execution,
            seed=self.seed,
        )
