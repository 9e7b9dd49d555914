"""RandAugment and TrivialAugment, each image with its own draws, a batch at a time on its device.

Cubuk, Zoph, Shlens and Le, "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS,
2020; Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV, 2021. Operations
and strengths are torchvision's (torchvision.transforms.v2), whose own classes draw once for a whole batch.

Shapes: B images, S images of one operation, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import radians

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
BINS = 31  # strengths of an operation
NAMES = (  # torchvision's
    "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
Transform = Callable[[Tensor, Tensor], Tensor]  # of images (S, C, H, W) with strengths (S,)


def rand_augmented(
    images_BCHW: Tensor, draws: np.random.Generator, *, operations: int, magnitude: int
) -> Tensor:
    """uint8 images after so many random operations each, of a strength from 0 to 30."""
    strength_B = np.full(len(images_BCHW), magnitude)
    for _ in range(operations):
        images_BCHW = _one_operation(images_BCHW, draws, strength_B, _RAND)
    return images_BCHW


def trivially_augmented(images_BCHW: Tensor, draws: np.random.Generator) -> Tensor:
    """uint8 images after one random operation each, of a random strength up to a wide one."""
    return _one_operation(images_BCHW, draws, draws.integers(0, BINS, len(images_BCHW)), _WIDE)


@dataclass(frozen=True)
class Operation:
    """A transform and its strength at each level; signed ones go either way."""

    transform: Transform
    levels: Floats
    signed: bool = False

    def at(
        self,
        images_BCHW: Tensor,
        rows: NDArray[np.int64],
        level_S: NDArray[np.int64],
        sign_S: NDArray[np.int64],
    ) -> None:
        """Change the images at these rows in place."""
        strength_S = self.levels[level_S] * (sign_S if self.signed else 1)
        at = torch.from_numpy(rows).to(images_BCHW.device)
        strengths = torch.from_numpy(strength_S).to(images_BCHW.device, torch.float32)
        images_BCHW[at] = self.transform(images_BCHW[at], strengths)


def _one_operation(
    images_BCHW: Tensor,
    draws: np.random.Generator,
    level_B: NDArray[np.int64],
    operations: tuple[Operation, ...],
) -> Tensor:
    B = len(images_BCHW)
    which_B, sign_B = draws.integers(0, len(operations) + 1, B), 1 - 2 * draws.integers(0, 2, B)
    found = images_BCHW.clone()
    for index, operation in enumerate(operations):  # the last number is the identity
        rows = np.flatnonzero(which_B == index)
        if len(rows):
            operation.at(found, rows, level_B[rows], sign_B[rows])
    return found


def _moved(images_SCHW: Tensor, matrix_S23: Tensor) -> Tensor:
    """Each image read at matrix @ (x, y, 1) for its pixel (x, y), the nearest one; black from outside."""
    S, C, H, W = images_SCHW.shape
    x, y = torch.arange(W, device=matrix_S23.device), torch.arange(H, device=matrix_S23.device)
    ones = torch.ones(H, W, device=matrix_S23.device)
    place_3P = torch.stack([x.expand(H, W), y[:, None].expand(H, W), ones]).reshape(3, -1)
    from_S2P = (matrix_S23 @ place_3P).round().long()
    column, row = from_S2P[:, 0], from_S2P[:, 1]
    inside_SP = (column >= 0) & (column < W) & (row >= 0) & (row < H)
    index_SP = row.clamp(0, H - 1) * W + column.clamp(0, W - 1)
    read = images_SCHW.flatten(2).gather(2, index_SP[:, None].expand(S, C, H * W))
    return (read * inside_SP[:, None]).reshape(images_SCHW.shape)


def _matrix(strength_S: Tensor, **entries: Tensor | float) -> Tensor:
    """(S, 2, 3) the identity but for these entries: xx, xy, x0, yx, yy, y0."""
    names = ("xx", "xy", "x0", "yx", "yy", "y0")
    plain = {"xx": 1.0, "yy": 1.0}
    columns = [
        torch.zeros_like(strength_S) + entries.get(name, plain.get(name, 0.0)) for name in names
    ]
    return torch.stack(columns, 1).reshape(-1, 2, 3)


def _sheared(images: Tensor, strength_S: Tensor, *, axis: str) -> Tensor:
    """About the upper left corner, as published."""
    moved = {"xy": strength_S} if axis == "x" else {"yx": strength_S}
    shift = {f"{axis}0": strength_S / 2}  # corners of pixels, not their centres
    return _moved(images, _matrix(strength_S, **moved, **shift))


def _translated(images: Tensor, strength_S: Tensor, *, axis: str, of_width: bool) -> Tensor:
    """By pixels; of_width: strengths are for 331 pixels, as published."""
    scale = images.shape[-1 if axis == "x" else -2] / 331 if of_width else 1.0
    return _moved(images, _matrix(strength_S, **{f"{axis}0": (scale * strength_S).trunc()}))


def _rotated(images: Tensor, strength_S: Tensor) -> Tensor:
    """About the centre, by degrees."""
    H, W = images.shape[-2:]
    angle = -strength_S * radians(1)
    c, s, x, y = angle.cos(), angle.sin(), (W - 1) / 2, (H - 1) / 2
    entries = {"xx": c, "xy": s, "yx": -s, "yy": c}
    return _moved(images, _matrix(angle, **entries, x0=x - c * x - s * y, y0=y + s * x - c * y))


def _blended(images: Tensor, strength_S: Tensor, *, kind: str) -> Tensor:
    """Images mixed with, or pushed away from, what torchvision makes of them at factor 0."""
    from torchvision.transforms.v2 import functional as F

    neutral = getattr(F, f"adjust_{kind}")(images, 0.0)
    factor = (1 + strength_S)[:, None, None, None]
    mixed = factor * images + (1 - factor) * neutral
    return mixed.clamp(0, 255).to(torch.uint8)


def _posterized(images: Tensor, bits_S: Tensor) -> Tensor:
    mask_S = 256 - 2.0 ** (8 - bits_S)
    return images & mask_S.to(torch.uint8)[:, None, None, None]


def _solarized(images: Tensor, threshold_S: Tensor) -> Tensor:
    return torch.where(images >= threshold_S[:, None, None, None], 255 - images, images)


def _with_contrast(images: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return F.autocontrast(images)


def _equalized(images: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return F.equalize(images)


def operations_of(
    *,
    shear: float,
    translate: float,
    rotate: float,
    colour: float,
    bits: int,
    of_width: bool,
    bins: int = BINS,
) -> tuple[Operation, ...]:
    """All operations but the identity, in the order of NAMES, each with so many strengths.

    From the strongest of each kind and the bits that posterize takes at most.
    """
    to = partial(np.linspace, 0.0, num=bins)
    moves: list[Transform] = [partial(_sheared, axis="x"), partial(_sheared, axis="y")]
    shifts = [partial(_translated, axis=axis, of_width=of_width) for axis in ("x", "y")]
    colours = ("brightness", "saturation", "contrast", "sharpness")
    left = 8 - (np.arange(bins) / ((bins - 1) / bits)).round()
    return (
        *(Operation(move, to(shear), signed=True) for move in moves),
        *(Operation(shift, to(translate), signed=True) for shift in shifts),
        Operation(_rotated, to(rotate), signed=True),
        *(Operation(partial(_blended, kind=k), to(colour), signed=True) for k in colours),
        Operation(_posterized, left),
        Operation(_solarized, np.linspace(255.0, 0.0, bins)),
        Operation(_with_contrast, to(0.0)),
        Operation(_equalized, to(0.0)),
    )


_RAND = operations_of(shear=0.3, translate=150.0, rotate=30.0, colour=0.9, bits=4, of_width=True)
_WIDE = operations_of(shear=0.99, translate=32.0, rotate=135.0, colour=0.99, bits=6, of_width=False)
