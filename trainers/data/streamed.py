"""Images that are decoded by worker processes while a network trains: of sets that are too large to be held.

Shapes: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainers.data.decode import Geometry, decoded
from trainers.data.images import Seekable
from trainers.data.mapped import cores
from trainers.data.processes import end_with_parent, forked_from_server

FEWEST_FOR_WORKERS = 256  # images; a smaller set is decoded sooner than worker processes start


class StreamedPixels:
    """Images decoded while earlier batches are used.

    The processes stay for later epochs. They know the names of all images, and are sent places of a batch's images.
    """

    def __init__(self, images: Seekable, rows: np.ndarray, geometry: Geometry) -> None:
        self.images, self.rows, self.geometry = images, rows, geometry
        self._orders: list[np.ndarray] = []  # of the batches under way; the loader reads this list
        self._loader: Any = None
        self._in_use = False

    def batches(
        self, orders: list[Tensor], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each order: the order and its images, on the device. Raises ValueError for a broken image."""
        if self._in_use:  # by batches that are not at their end: these get processes of their own
            yield from StreamedPixels(self.images, self.rows, self.geometry).batches(orders, device)
            return
        self._in_use = True
        try:
            self._orders[:] = [order_B.numpy() for order_B in orders]
            self._loader = self._loader or self._made()
            for order_B, found in zip(orders, self._loader, strict=True):
                if isinstance(found, str):
                    raise ValueError(found)
                yield order_B.to(device, non_blocking=True), sent(torch.from_numpy(found), device)
        finally:
            self._in_use = False

    def some(self, places_N: Tensor) -> StreamedPixels:
        """The images at these places."""
        return StreamedPixels(self.images, self.rows[places_N.numpy()], self.geometry)

    def release(self) -> None:
        """End the processes; the next batches start others."""
        if not self._in_use:
            self._loader = None

    def _made(self) -> Any:
        return DataLoader(
            _Decoding(self.images, self.rows, self.geometry),
            batch_size=None,
            sampler=self._orders,
            collate_fn=_as_is,
            generator=torch.Generator(),  # the loader would draw from the global one
            **_workers(len(self.rows)),
        )


def sent(images_BCHW: Tensor, device: torch.device) -> Tensor:
    """Images of the CPU's memory on the device, while it computes."""
    if device.type == "cuda":
        images_BCHW = images_BCHW.pin_memory()
    return images_BCHW.to(device, non_blocking=True)


def _as_is(batch: Any) -> Any:
    """Keeps the loader from making tensors in the workers, which would travel by shared memory."""
    return batch


@dataclass
class _Decoding(Dataset):
    """Runs in the workers. Batches stay numpy arrays, which travel by pipe: a container's /dev/shm is small.

    A broken image comes back as its message: the loader would wrap an exception in a traceback.
    """

    images: Seekable
    rows: np.ndarray
    geometry: Geometry

    def __getitem__(self, order_B: np.ndarray) -> np.ndarray | str:
        try:
            return np.stack(
                [decoded(self.geometry, *self.images.at(int(row))) for row in self.rows[order_B]]
            )
        except ValueError as error:
            return str(error)


def _begin(worker: int) -> None:
    """In a process that decodes: one whose trainer was killed would wait for ever."""
    end_with_parent()


def _workers(images: int) -> dict[str, Any]:
    """The loader's worker settings. A daemonic process may not start any."""
    if images < FEWEST_FOR_WORKERS or multiprocessing.current_process().daemon:
        return {"num_workers": 0}
    # a plain fork of a process with threads may deadlock
    context = forked_from_server(["trainers.data.streamed"])
    return {
        "num_workers": cores(),
        "multiprocessing_context": context,
        "persistent_workers": True,
        "worker_init_fn": _begin,
    }
