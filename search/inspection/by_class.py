"""Tables with a row a class, of which there may be too many to show.

Shapes: N images, K classes that occur, V values of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CLASSES = 24  # shown of more: half of them from the start of the order, half from its end


@dataclass(frozen=True)
class ClassRows:
    """Classes in an order, a row of values each, and how many classes between were left out."""

    classes: list[str]
    rows: list[list[float]]
    left_out: int


def class_rows(
    label_N: Tensor,
    classes: Sequence[str],
    *,
    row: Callable[[Tensor], Tensor],
    rank: Callable[[Tensor], Tensor],
) -> ClassRows:
    """Rows of the classes that occur, sorted: `row` gives (V,) for a mask of images, `rank` (K,) for (K, V) rows."""
    present = label_N.unique().tolist()
    table_KV = torch.stack([row(label_N == c) for c in present])
    order = rank(table_KV).argsort(stable=True).tolist()
    shown = order if len(order) <= CLASSES else [*order[: CLASSES // 2], *order[-CLASSES // 2 :]]
    rows = [round_values(table_KV[i]) for i in shown]
    return ClassRows([classes[present[i]] for i in shown], rows, len(order) - len(shown))


def round_values(values: Tensor) -> list[float]:
    """Numbers as they are kept: three digits are more than a picture shows."""
    return [round(float(v), 3) for v in values]
