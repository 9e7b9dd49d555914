"""A random part of each image, brought to the image's size: the crop that ImageNet networks are trained with.

Szegedy et al., "Going Deeper with Convolutions", CVPR, 2015; shares and shapes of parts as in torchvision, which draws
once for a whole batch. Differs: at its edge a part is read beyond it, not repeated.

Shapes: B images, T tries, C channels, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TRIES = 10  # to find a part that lies within the image; then the largest centred one
RATIO = 4 / 3  # of the longer side to the shorter, at most


def resized_crops(
    images_BCHW: Tensor,
    draws: np.random.Generator,
    *,
    least: float,
    flip: bool,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """uint8 images: a part of each, at least such a share of its area, resized; half of them mirrored with `flip`.

    `size` is their height and width then, without it that of the images.
    """
    B, C, H, W = images_BCHW.shape
    box_4B = boxes(draws, B, H, W, least)
    mirror_B = draws.integers(0, 2, B) == 1 if flip else np.zeros(B, dtype=bool)
    top, left, height, width = box_4B.astype(np.float64)
    side_B = np.where(mirror_B, -1.0, 1.0) * width / W
    zero = np.zeros(B)
    rows = [side_B, zero, (2 * left + width) / W - 1, zero, height / H, (2 * top + height) / H - 1]
    theta_B23 = torch.from_numpy(np.stack(rows, 1).reshape(B, 2, 3)).to(
        images_BCHW.device, torch.float32
    )
    grid = F.affine_grid(theta_B23, [B, C, *(size or (H, W))], align_corners=False)
    read = F.grid_sample(images_BCHW.float(), grid, padding_mode="border", align_corners=False)
    return read.round().clamp(0, 255).to(torch.uint8)


def boxes(draws: np.random.Generator, B: int, H: int, W: int, least: float) -> NDArray[np.int64]:
    """(4, B) top, left, height and width of each image's part."""
    area_BT = H * W * draws.uniform(least, 1.0, (B, TRIES))
    ratio_BT = np.exp(draws.uniform(-np.log(RATIO), np.log(RATIO), (B, TRIES)))
    place_2B = draws.random((2, B))
    width_BT = np.rint(np.sqrt(area_BT * ratio_BT)).astype(np.int64)
    height_BT = np.rint(np.sqrt(area_BT / ratio_BT)).astype(np.int64)
    fits_BT = (width_BT > 0) & (width_BT <= W) & (height_BT > 0) & (height_BT <= H)
    first_B, found_B = fits_BT.argmax(1), fits_BT.any(1)
    at = np.arange(B), first_B
    height_B = np.where(found_B, height_BT[at], min(H, round(W * RATIO)))
    width_B = np.where(found_B, width_BT[at], min(W, round(H * RATIO)))
    top_B = np.where(found_B, place_2B[0] * (H - height_B + 1), (H - height_B) / 2).astype(np.int64)
    left_B = np.where(found_B, place_2B[1] * (W - width_B + 1), (W - width_B) / 2).astype(np.int64)
    return np.stack([top_B, left_B, height_B, width_B])
