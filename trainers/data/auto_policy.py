"""AutoAugment: each image takes one of 25 learned pairs of operations, a batch at a time on its device.

Cubuk, Zoph, Mane, Vasudevan and Le, "AutoAugment: Learning Augmentation Strategies from Data", CVPR, 2019: the policy
that was learned on CIFAR-10, published for CIFAR-100 too. The pairs are torchvision's, whose own class draws once for
a whole batch.

Shapes: B images, S images of one operation, C channels, H rows, W columns, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.data.auto_augment import NAMES, Operation, operations_of

LEVELS = 10  # strengths of an operation


def auto_augmented(images_BCHW: Tensor, draws: np.random.Generator) -> Tensor:
    """uint8 images after one of the policy's pairs of operations each, either with its own probability."""
    B, found = len(images_BCHW), images_BCHW.clone()
    pair_B = draws.integers(0, len(_halves()[0].names), B)
    for half in _halves():
        takes_B = draws.random(B) < half.probability_P[pair_B]
        sign_B = 1 - 2 * draws.integers(0, 2, B)
        name_B = half.names[pair_B]
        for name in sorted(set(half.names)):
            rows = np.flatnonzero(takes_B & (name_B == name))
            if len(rows):
                level_S = half.level_P[pair_B[rows]]
                _operations()[name].at(found, rows, level_S, sign_B[rows])
    return found


@dataclass(frozen=True)
class _Half:
    """The first or the second operation of every pair."""

    names: NDArray[np.str_]
    probability_P: NDArray[np.float64]
    level_P: NDArray[np.int64]


@cache
def _halves() -> tuple[_Half, ...]:
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    pairs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    found = []
    for half in zip(*pairs, strict=True):
        names, probabilities, levels = zip(*half, strict=True)
        level_P = np.array([level or 0 for level in levels])
        found.append(_Half(np.array(names), np.array(probabilities), level_P))
    return tuple(found)


@cache
def _operations() -> dict[str, Operation]:
    common = operations_of(
        shear=0.3, translate=150.0, rotate=30.0, colour=0.9, bits=4, of_width=True, bins=LEVELS
    )
    inverted = Operation(lambda images, _: 255 - images, np.zeros(LEVELS))
    return {**dict(zip(NAMES, common, strict=True)), "Invert": inverted}
