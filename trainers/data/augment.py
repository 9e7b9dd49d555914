"""Training images shifted and mirrored at random, and pixels brought to mean 0 and deviation 1.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def augmented(images_BCHW: Tensor, *, seed: int, step: int, flip: bool, pad: int) -> Tensor:
    """Each image moved by up to `pad` pixels both ways and, with `flip`, mirrored half of the time.

    The same as a crop from an image padded by reflection, which unlike zeros adds no edge.
    The draws depend on (seed, step) alone and are made on the CPU: every device gets the same.
    """
    B, C, H, W = images_BCHW.shape
    if not 0 <= pad < min(H, W):
        raise ValueError(f"pad: {pad} does not fit images of {H}x{W}: give 0 to {min(H, W) - 1}")
    draws = np.random.default_rng((seed, step))
    shift_2B = torch.from_numpy(draws.integers(-pad, pad + 1, (2, B)))
    mirror_B = (
        torch.from_numpy(draws.integers(0, 2, B) == 1) if flip else torch.zeros(B, dtype=torch.bool)
    )
    rows_BH = _reflected(torch.arange(H) + shift_2B[0, :, None], H)
    columns_BW = _reflected(torch.arange(W) + shift_2B[1, :, None], W)
    columns_BW = torch.where(mirror_B[:, None], columns_BW.flip(1), columns_BW)
    device = images_BCHW.device
    return images_BCHW[
        torch.arange(B, device=device)[:, None, None, None],
        torch.arange(C, device=device)[:, None, None],
        rows_BH.to(device, non_blocking=True)[:, None, :, None],
        columns_BW.to(device, non_blocking=True)[:, None, None, :],
    ]


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


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices outside 0..size-1 mirrored at the edge pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
