"""The images of one split, in batches.

Shapes: B images of a batch, N images of a split, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainers.data.part import WHOLE, Part
from trainers.data.pixels import HeldPixels
from trainers.data.progress import advance
from trainers.data.streamed import StreamedPixels


class Batch(NamedTuple):
    """Images (B, C, H, W) uint8, labels (B,) int64, ids (B,) int64, all on one device.

    An id is the index of the image in the original train (or test) set: the same for every seed and limit.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


def evenly(length: int, count: int) -> Tensor:
    """(N,) So many places of a sequence, spread evenly; all where there are no more."""
    return torch.linspace(0, length - 1, min(count, length)).long()


class Split:
    """The images of one split. `labels` and `ids` (N,) int64 stay on the CPU.

    `of_features`: batches are rows of features that stand for the images.
    """

    of_features = False

    def __init__(self, labels: Tensor, ids: Tensor, pixels: HeldPixels | StreamedPixels) -> None:
        self.labels, self.ids = labels, ids
        self.pixels = pixels
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, count: int) -> Split:
        """So many of the images, spread evenly; all where there are no more."""
        return self.at(evenly(len(self), count))

    def at(self, places_N: Tensor) -> Split:
        """The images at these places."""
        return Split(self.labels[places_N], self.ids[places_N], self.pixels.some(places_N))

    def release(self) -> None:
        """Give back what only batches need: memory of a GPU, processes."""
        self._on_device.clear()
        self.pixels.release()

    def batches(
        self,
        size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: int | None = None,
        drop_last: bool = False,
        part: Part = WHOLE,
    ) -> Iterator[Batch]:
        """Batches of `size` images, in the order that the seed `shuffle` gives, or as stored when it is None.

        `drop_last` leaves out a last batch of fewer than `size` images. Of each batch `part` is read
        alone.
        """
        if size < 1:
            raise ValueError(f"batch size: {size} is too small: give 1 or more")
        device = torch.empty(0, device=device).device
        labels_N, ids_N = self._moved(device)
        orders = [part.of(order_B) for order_B in self._orders(size, shuffle, drop_last)]
        for order_B, images in self.pixels.batches(orders, device):
            advance()
            yield Batch(images, labels_N[order_B], ids_N[order_B])

    def _orders(self, size: int, shuffle: int | None, drop_last: bool) -> list[Tensor]:
        if shuffle is None:
            order_N = torch.arange(len(self))
        else:
            order_N = torch.randperm(len(self), generator=torch.Generator().manual_seed(shuffle))
        orders = list(order_N.split(size))
        return orders[:-1] if drop_last and orders and len(orders[-1]) < size else orders

    def _moved(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._on_device:
            self._on_device[device] = self.labels.to(device), self.ids.to(device)
        return self._on_device[device]
