"""Pixels made smaller inside a network that is shipped, so that its file takes images of one size.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels (B, C, H, W) at this size, bilinear and antialiased; as they are where they have it.

    ONNX has the same operation (Resize with antialias); its few products a pixel are not counted as MACs.
    """
    if pixels.shape[2:] == (height, width):
        return pixels
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
