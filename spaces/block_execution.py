"""The residual of a block computed only on its open filters.

Rows of the first convolution that no sample opened, and columns of the second that read them, are never multiplied.
Samples with equal masks run together; a group too small to pay for gathering weights runs masked.

Shapes: B samples, C filters, N open filters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.resnet import Block, folded

SMALLEST_GROUP = 8  # samples that share a mask; fewer (but one alone) are cheaper masked than gathered


def compact_residual(block: Block, u: Tensor, inner: Tensor | None = None, outer: Tensor | None = None) -> Tensor:
    """The block's residual of u, filters that `inner` and `outer` (B or 1, C) close left out of the computation."""
    masks = [m.expand(len(u), -1) for m in (inner, outer) if m is not None]
    if not masks:
        return block.residual(u)
    patterns, group_B = torch.cat(masks, 1).unique(dim=0, return_inverse=True)
    if len(patterns) == 1:
        return _gathered(block, u, _first(inner), _first(outer))
    out = torch.empty(0)
    for group in range(len(patterns)):
        rows = (group_B == group).nonzero()[:, 0]
        if len(rows) >= SMALLEST_GROUP:
            part = _gathered(block, u[rows], _at(inner, rows[:1]), _at(outer, rows[:1]))
        else:
            part = block.residual(u[rows], _at(inner, rows), _at(outer, rows))
        out = part.new_empty(len(u), *part.shape[1:]) if not len(out) else out
        out[rows] = part
    return out


def _gathered(block: Block, u: Tensor, inner: Tensor | None, outer: Tensor | None) -> Tensor:
    """One mask (1, C) for all samples: convolutions of gathered rows and columns, batch norm folded in.

    A mask's value other than 0 and 1 scales its filter. With no inner filter open what remains is the second
    batch norm's shift, not zero.
    """
    weight1, bias1 = folded(block.conv1, block.bn1)
    weight2, bias2 = folded(block.conv2, block.bn2)
    if inner is not None:
        open_N = inner[0].nonzero()[:, 0]
        weight1, bias1 = weight1[open_N], bias1[open_N]
        weight2 = weight2[:, open_N] * inner[0, open_N].to(weight2.dtype)[None, :, None, None]
    filters = len(bias2)
    if outer is not None:
        open_out_N = outer[0].nonzero()[:, 0]
        scale_N = outer[0, open_out_N].to(weight2.dtype)
        weight2, bias2 = weight2[open_out_N] * scale_N[:, None, None, None], bias2[open_out_N] * scale_N
    height, width = ((n - 1) // block.stride + 1 for n in u.shape[2:])
    if not len(bias2):
        return u.new_zeros(len(u), filters, height, width)
    if not len(bias1):
        part = bias2[None, :, None, None].expand(len(u), -1, height, width).to(u.dtype)
    else:
        h = F.relu(F.conv2d(u, weight1, bias1, block.stride, 1))
        part = F.conv2d(h, weight2, bias2, 1, 1)
    if outer is None:
        return part
    return part.new_zeros(len(u), filters, height, width).index_copy(1, open_out_N, part)


def _first(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask[:1]


def _at(mask: Tensor | None, rows: Tensor) -> Tensor | None:
    return mask if mask is None or len(mask) == 1 else mask[rows]
