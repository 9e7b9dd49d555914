"""The residual of a block computed only on its open filters.

Rows of a convolution that no sample opened, and columns of the next that read them, are never multiplied.
Samples with equal masks run together; a group too small to pay for gathering weights runs masked.

Shapes: B samples, C filters, N open filters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.resnet import fold_batch_norm

# samples that share a mask; fewer (but one alone) are cheaper masked than gathered
SMALLEST_GROUP = 8


class Convolutions(Protocol):
    """A block whose residual is a row of convolutions with batch norms, `activation` between them.

    The masks that it takes are those of its kinds of channel gates, in order. A depthwise convolution has the mask of
    the one before it.
    """

    outputs: int
    stride: int

    @property
    def activation(self) -> Callable[[Tensor], Tensor]: ...

    @property
    def residual(self) -> Callable[..., Tensor]: ...

    @property
    def masked_convolutions(
        self,
    ) -> Callable[..., list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor | None]]]: ...


def compact_residual(block: Convolutions, u: Tensor, *masks: Tensor | None) -> Tensor:
    """The block's residual of u, filters that the masks (B or 1, C) close left out of the computation."""
    given = [m for m in masks if m is not None]
    if not given:
        return block.residual(u)
    if all(len(m) == 1 for m in given):
        return _gathered(block, u, masks)
    patterns, group_B = torch.cat([m.expand(len(u), -1) for m in given], 1).unique(
        dim=0, return_inverse=True
    )
    if len(patterns) == 1:
        return _gathered(block, u, [None if m is None else m[:1] for m in masks])
    parts, places = [], []
    for group in range(len(patterns)):
        rows = (group_B == group).nonzero()[:, 0]
        if len(rows) >= SMALLEST_GROUP:
            parts.append(_gathered(block, u[rows], [_at(m, rows[:1]) for m in masks]))
        else:
            parts.append(block.residual(u[rows], *(_at(m, rows) for m in masks)))
        places.append(rows)
    return torch.cat(parts)[torch.cat(places).argsort()]


@dataclass(frozen=True)
class _Part:
    """What is open of a convolution, batch norm folded in. `open_N` are the filters kept; None: all."""

    conv: nn.Conv2d
    weight: Tensor
    bias: Tensor
    open_N: Tensor | None

    def __call__(self, u: Tensor) -> Tensor:
        groups = len(self.bias) if self.depthwise else 1
        return F.conv2d(
            u, self.weight, self.bias, self.conv.stride, self.conv.padding, groups=groups
        )

    @property
    def depthwise(self) -> bool:
        return self.conv.groups > 1

    def shift(self, u: Tensor, size: tuple[int, ...]) -> Tensor:
        """(B, N, *size) what it makes of zeros."""
        return self.bias[None, :, None, None].expand(len(u), -1, *size).to(u.dtype)


def _gathered(block: Convolutions, u: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
    """One mask (1, C) a kind for all samples: convolutions of gathered rows and columns.

    Behind a convolution without an open filter what remains is the next batch norm's shift, not zero.
    """
    parts = _open_parts(block, masks)
    last = parts[-1]
    whole = (len(u), block.outputs, *((n - 1) // block.stride + 1 for n in u.shape[2:]))
    if not len(last.bias):
        return u.new_zeros(whole)
    start = max((number + 1 for number, part in enumerate(parts) if not len(part.bias)), default=0)
    steps: list[Callable[[Tensor], Tensor]] = [*parts[start:]]
    if start:
        steps[0] = partial(parts[start].shift, size=whole[2:])
    h = u
    for step in steps[:-1]:
        h = block.activation(step(h))  # in one expression, so that few maps are alive at a time
    h = steps[-1](h)
    return h if last.open_N is None else h.new_zeros(whole).index_copy(1, last.open_N, h)


def _open_parts(block: Convolutions, masks: Sequence[Tensor | None]) -> list[_Part]:
    """The block's convolutions reduced to their open filters.

    A mask's value other than 0 and 1 scales its filter, behind the activation: in the convolution that reads it, or in
    the last one itself.
    """
    parts: list[_Part] = []
    scale_N = None
    for conv, norm, mask in block.masked_convolutions(*masks):
        weight, bias = fold_batch_norm(conv, norm)
        if scale_N is not None and conv.groups == 1:
            weight = weight[:, parts[-1].open_N] * scale_N.to(weight.dtype)[None, :, None, None]
        open_N, scale_N = None, None
        if mask is not None:
            open_N = mask[0].nonzero()[:, 0]
            weight, bias, scale_N = weight[open_N], bias[open_N], mask[0, open_N]
        parts.append(_Part(conv, weight, bias, open_N))
    if scale_N is None:
        return parts
    *rest, last = parts
    scale_N = scale_N.to(last.weight.dtype)
    return [
        *rest,
        _Part(
            last.conv, last.weight * scale_N[:, None, None, None], last.bias * scale_N, last.open_N
        ),
    ]


def _at(mask: Tensor | None, rows: Tensor) -> Tensor | None:
    return mask if mask is None or len(mask) == 1 else mask[rows]
