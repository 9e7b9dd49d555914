"""What a training answers to the validation images, kept so that it can become a member of a cascade.

Shapes: P operating points, N images, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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
from trainers.logits import image_logits

logger = logging.getLogger(f"dynafront.{__name__}")

MOST_POINTS = 6  # of a training; each takes a pass over validation
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
    logits, macs = [], []
    for point in chosen:
        knobs = Knobs(**point.knobs)
        at = _refreshed(net, data, knobs, recipe, execution, seed)
        logits_NC, macs_N = image_logits(
            at, data.validation, data, knobs, execution=execution, rates=point.rates
        )
        logits.append(logits_NC.clamp(-LARGEST, LARGEST).half())
        macs.append(macs_N.float())
    labels = data.validation.labels.cpu()
    return MemberAnswers(
        tuple(dict(p.knobs) for p in chosen), torch.stack(logits), torch.stack(macs), labels
    )


def _refreshed(
    net: DynamicNet,
    data: ImageData,
    knobs: Knobs,
    recipe: Recipe,
    execution: Execution,
    seed: int,
) -> DynamicNet:
    """The network with the batch-norm statistics that the knobs ask for."""
    if knobs.recalibrate == "none":
        return net
    batch, augment = recipe.batch, recipe.augment
    return recalibrated(
        net, data, knobs, batch=batch, execution=execution, seed=seed, augment=augment
    )
