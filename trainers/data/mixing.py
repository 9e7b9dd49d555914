"""Pairs of images mixed, with their labels, and parts of images erased; each image with its own draws.

Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR, 2018; Yun, Han, Oh, Chun, Choe
and Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV, 2019; Zhong,
Zheng, Kang, Li and Yang, "Random Erasing Data Augmentation", AAAI, 2020. Differs: shares are drawn an image, not a
batch; with both kinds of mixing, half of the images take either. What is erased becomes the mean colour.

Shapes: B images, C channels or classes, H rows, W columns.
"""

from __future__ import annotations

from math import log

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LEAST, MOST = 0.02, 1 / 3  # of the area that is erased
SHAPES = (0.3, 1 / 0.3)  # height over width


def mixed(
    pixels_BCHW: Tensor,
    labels_B: Tensor,
    classes: int,
    draws: np.random.Generator,
    *,
    mixup: float,
    cutmix: float,
) -> tuple[Tensor, Tensor]:
    """(images mixed each with the one before it, shares of classes (B, C)); alphas of 0 do without that kind."""
    B, _, H, W = pixels_BCHW.shape
    blend_B = np.where(
        _taken(draws, B, mixup, cutmix), draws.beta(mixup or 1.0, mixup or 1.0, B), 1.0
    )
    cut_B = np.where(blend_B == 1.0, draws.beta(cutmix or 1.0, cutmix or 1.0, B), 1.0)
    if not cutmix:
        cut_B = np.ones(B)
    inside_BHW = _rectangles(draws, np.sqrt(1 - cut_B) * H, np.sqrt(1 - cut_B) * W, H, W)
    keep_BHW = torch.from_numpy(~inside_BHW).to(pixels_BCHW.device)
    weight_B = torch.from_numpy(blend_B).to(pixels_BCHW.device, torch.float32)
    weight_BHW = weight_B[:, None, None] * keep_BHW
    other = pixels_BCHW.roll(1, 0)
    images = other + weight_BHW[:, None] * (pixels_BCHW - other)
    share_B = weight_BHW.mean((1, 2))[:, None]
    own = F.one_hot(labels_B, classes).to(share_B.dtype)
    return images, share_B * own + (1 - share_B) * own.roll(1, 0)


def erased(pixels_BCHW: Tensor, draws: np.random.Generator, *, probability: float) -> Tensor:
    """Normalised images, in some of which a rectangle is 0."""
    B, _, H, W = pixels_BCHW.shape
    area_B = H * W * draws.uniform(LEAST, MOST, B) * (draws.random(B) < probability)
    shape_B = np.exp(draws.uniform(log(SHAPES[0]), log(SHAPES[1]), B))
    inside_BHW = _rectangles(draws, np.sqrt(area_B * shape_B), np.sqrt(area_B / shape_B), H, W)
    return pixels_BCHW * torch.from_numpy(~inside_BHW).to(pixels_BCHW.device)[:, None]


def _taken(draws: np.random.Generator, B: int, mixup: float, cutmix: float) -> NDArray[np.bool_]:
    """Which images are blended rather than cut."""
    half = draws.random(B) < 0.5
    return half if mixup and cutmix else np.full(B, mixup > 0)


def _rectangles(
    draws: np.random.Generator,
    height_B: NDArray[np.float64],
    width_B: NDArray[np.float64],
    H: int,
    W: int,
) -> NDArray[np.bool_]:
    """(B, H, W) where each image's rectangle lies: of this size around a random centre, cut at the edges."""
    B = len(height_B)
    y_B, x_B = draws.integers(0, H, B), draws.integers(0, W, B)
    spans = []
    for centre_B, size_B, end in ((y_B, height_B, H), (x_B, width_B, W)):
        size_B = np.rint(size_B).astype(np.int64)
        first_B = centre_B - size_B // 2
        at = np.arange(end)
        spans.append((at >= first_B[:, None]) & (at < (first_B + size_B)[:, None]))
    return spans[0][:, :, None] & spans[1][:, None, :]
