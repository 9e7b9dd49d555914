"""Pixels as a network takes them that was trained on images of one size, whatever size they come in."""

from __future__ import annotations

import torch
from torch import Tensor

from spaces.deploy.resized import resized
from trainers.data.splits import ImageData


def own_pixels(pixels: Tensor, data: ImageData) -> Tensor:
    """Pixels (B, C, H, W) in [0, 1], made smaller as an exported cascade does it, at the mean and deviation of `data`.

    Images of the size of `data` come out as `normalized` makes them.
    """
    own = resized(pixels, data.height, data.width)
    mean, std = (
        torch.tensor(values, dtype=own.dtype, device=own.device)[:, None, None]
        for values in (data.mean, data.std)
    )
    return (own - mean) / std
