"""A split whose batches are rows of features in place of images.

Shapes: N images, B images of a batch, D numbers of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.data.part import WHOLE, Part
from trainers.data.progress import advance
from trainers.data.splits import Batch, Split
from trainers.evaluate import BATCH

VIEW_SEED = 20_020
HELD = 2**28  # bytes of rows that are held in memory, beside those that lie in files


class FeatureSplit(Split):
    """A split whose batches are rows of features: each image in one of its views, drawn anew each epoch."""

    of_features = True

    def __init__(self, split: Split, views: Sequence[Sequence[NDArray[Any]]]) -> None:
        super().__init__(split.labels, split.ids, split.pixels)
        self.views = views

    def batches(
        self,
        size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: int | None = None,
        drop_last: bool = False,
        part: Part = WHOLE,
    ) -> Iterator[Batch]:
        view_N = np.zeros(len(self), dtype=np.int64)
        if shuffle is not None:
            view_N = np.random.default_rng((shuffle, VIEW_SEED)).integers(
                0, len(self.views), len(self)
            )
        for order_B in map(part.of, self._orders(size, shuffle, drop_last)):
            advance()
            rows = self.rows(order_B.numpy(), view_N[order_B.numpy()])
            labels, ids = self.labels[order_B], self.ids[order_B]
            yield Batch(rows.to(device), labels.to(device), ids.to(device))

    def rows(self, order_B: NDArray[np.int64], view_B: NDArray[np.int64]) -> Tensor:
        """(B, D) float32 of these images, each in its view."""
        if self._held is not None:
            places_B = torch.from_numpy(view_B * len(self) + order_B)
            return self._held.index_select(0, places_B).float()
        rows_BD = np.empty((len(order_B), self._width), dtype=np.float32)
        for view in np.unique(view_B):
            here = np.flatnonzero(view_B == view)
            rows_BD[here] = np.concatenate([read[order_B[here]] for read in self.views[view]], 1)
        return torch.from_numpy(rows_BD)

    @cached_property
    def _held(self) -> Tensor | None:
        """(views x N, D) all rows, view after view; None where they would take too much memory.

        A batch of 128 takes a fifth of the time that it takes from files: 0.2 of 1.1 ms.
        """
        if sum(read.nbytes for view in self.views for read in view) > HELD:
            return None
        return torch.from_numpy(np.concatenate([np.concatenate(view, 1) for view in self.views]))

    @property
    def _width(self) -> int:
        return sum(read.shape[1] for read in self.views[0])

    def moments(self, read: int) -> tuple[Tensor, Tensor]:
        """(D,) mean and variance of what is read, over all images in all views."""
        total, squares, count = 0.0, 0.0, 0
        for view in self.views:
            for start in range(0, len(self), BATCH):
                rows = view[read][start : start + BATCH].astype(np.float64)
                total, squares = total + rows.sum(0), squares + (rows**2).sum(0)
                count += len(rows)
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0.0)
        return torch.from_numpy(mean).float(), torch.from_numpy(variance).float()
