"""Training images shifted and mirrored at random, and pixels brought to mean 0 and deviation 1.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def augmented(
    images_BCHW: Tensor,
    *,
    seed: int,
    step: int,
    flip: bool,
    pad: tuple[int, int],
    border: str = "reflect",
) -> Tensor:
    """Each image moved by up to `pad` (rows, columns) both ways and, with `flip`, mirrored half of the time.

    The same as a crop from a padded image. What comes in at a border is the image's own reflection, which adds no edge,
    or, with "zero", black.
    The draws depend on (seed, step) alone and are made on the CPU: every device gets the same.
    """
    B, C, H, W = images_BCHW.shape
    for most, side in zip(pad, (H, W), strict=True):
        if not 0 <= most < side:
            raise ValueError(f"pad: {most} does not fit images of {H}x{W}: give 0 to {side - 1}")
    draws, most_21 = np.random.default_rng((seed, step)), np.array(pad)[:, None]
    shift_2B = torch.from_numpy(draws.integers(-most_21, most_21 + 1, (2, B)))
    mirror_B = (
        torch.from_numpy(draws.integers(0, 2, B) == 1) if flip else torch.zeros(B, dtype=torch.bool)
    )
    rows_BH = _reflected(torch.arange(H) + shift_2B[0, :, None], H)
    columns_BW = _reflected(torch.arange(W) + shift_2B[1, :, None], W)
    columns_BW = torch.where(mirror_B[:, None], columns_BW.flip(1), columns_BW)
    device = images_BCHW.device
    moved_BCHW = images_BCHW[
        torch.arange(B, device=device)[:, None, None, None],
        torch.arange(C, device=device)[:, None, None],
        rows_BH.to(device, non_blocking=True)[:, None, :, None],
        columns_BW.to(device, non_blocking=True)[:, None, None, :],
    ]
    if border == "reflect":
        return moved_BCHW
    inside_BHW = _inside(shift_2B[0], H)[:, :, None] & _inside(shift_2B[1], W, mirror_B)[:, None]
    return moved_BCHW * inside_BHW.to(device, non_blocking=True)[:, None]


def eighth(size: tuple[int, int]) -> tuple[int, int]:
    """The pad, in rows and columns, of images shifted by up to an eighth of their height and width."""
    height, width = (max(1, side // 8) for side in size)
    return height, width


def centre(images_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of each image, of this height and width; images of that size come out as they are."""
    (H, W), (height, width) = images_BCHW.shape[-2:], size
    top, left = (H - height) // 2, (W - width) // 2
    return images_BCHW[..., top : top + height, left : left + width]


def normalized(
    images_BCHW: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 images as (pixel / 255 - mean) / std, computed in float32 whatever the dtype of the result."""
    device = images_BCHW.device
    mean_C11 = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]
    std_C11 = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]
    return ((images_BCHW.float() / 255 - mean_C11) / std_C11).to(dtype)


def _inside(shift_B: Tensor, size: int, mirror_B: Tensor | None = None) -> Tensor:
    """(B, size) which places show the image itself, once it is shifted and then mirrored where asked for."""
    place_BS = torch.arange(size) + shift_B[:, None]
    inside_BS = (place_BS >= 0) & (place_BS < size)
    if mirror_B is None:
        return inside_BS
    return torch.where(mirror_B[:, None], inside_BS.flip(1), inside_BS)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices outside 0..size-1 mirrored at the edge pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
