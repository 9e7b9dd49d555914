"""Stored images as uint8 tensors of one size: all of them in memory, or decoded by workers when needed.

Shapes: N images, B images of a batch, C channels, H height, W width, P = 256 pixel values.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainers.data.decode import Geometry, Header, Resize, brightest, decoded, header
from trainers.data.images import Images, Seekable, Stored
from trainers.data.processes import forked_from_server

LARGEST_SIDE = 224  # of images whose stored sizes differ, unless the study file says otherwise
# mean and deviation are of so many at most: all of CIFAR, not of ImageNet
STATISTICS_PIXELS = 2**28
FEWEST_FOR_WORKERS = 256  # images; a smaller set is decoded sooner than worker processes start
BLOCK = 1024  # encoded images in memory at a time
TASK = 16  # images a thread takes at once: handing over a small one costs as much as decoding it

DARK = 16  # of 256: colour images with 16 bits a channel whose upper 8 are all below hold their picture in the lower

T = TypeVar("T")


@dataclass(frozen=True)
class Shapes:
    """The one geometry of a set, and what the geometry does to its images."""

    geometry: Geometry
    sizes: tuple[
        tuple[int, int], tuple[int, int]
    ]  # height and width of the smallest and the largest image
    uneven: int  # images of another aspect ratio than the geometry's

    @property
    def note(self) -> str:
        """What is done to images of another aspect ratio, in a line; empty where there are none."""
        if not self.uneven:
            return ""
        _, height, width = self.geometry.shape
        (low, narrow), (high, wide) = self.sizes
        done = {
            "crop": "the largest centred part is used, the rest is cut off (`resize: pad` or `squash` keep all of it)",
            "pad": "black borders are added",
            "squash": "they are squashed",
        }[self.geometry.resize]
        return (
            f"images from {narrow} x {low} to {wide} x {high} pixels become {width} x {height}; {self.uneven:,} have "
            f"another aspect ratio: {done}"
        )


def shapes_of(images: Images, image_size: int | None, resize: Resize = "crop") -> Shapes:
    """The one size and number of channels of a set; 1 channel when every image is gray."""
    headers = list(mapped(header, images.each(range(len(images.labels)))))
    geometry = _geometry(headers, image_size)._replace(resize=resize)
    if deep := [row for row, one in enumerate(headers) if one.deep]:
        highest = max(mapped(brightest, images.each(deep)))
        geometry = geometry._replace(bits=max(8, highest.bit_length()))
    if upper := [row for row, one in enumerate(headers) if one.upper]:
        _check_upper(images, upper)
    sizes = [(one.height, one.width) for one in headers]
    uneven = sum(height * geometry.width != width * geometry.height for height, width in sizes)
    ends = min(sizes, key=lambda size: size[0] * size[1]), max(sizes, key=lambda s: s[0] * s[1])
    return Shapes(geometry, ends, uneven)


def _check_upper(images: Images, rows: list[int]) -> None:
    """Raises ValueError where colour images with 16 bits a channel have nothing in the upper 8, which are kept."""
    if max(mapped(brightest, images.each(rows))) < DARK:
        name, _ = next(iter(images.each(rows[:1])))
        raise ValueError(
            f"{name}: colour with 16 bits a channel and no value above {256 * DARK - 1:,}, as all such images here: "
            "Pillow reads the upper 8 bits and would make them dark. Save them with 8 bits a channel"
        )


def _geometry(headers: Sequence[Header], image_size: int | None) -> Geometry:
    channels = 1 if all(one.gray for one in headers) else 3
    if image_size is not None:
        return Geometry(channels, image_size, image_size)
    sizes = {(one.height, one.width) for one in headers}
    if len(sizes) == 1:
        return Geometry(channels, *sizes.pop())
    side = min(LARGEST_SIDE, int(np.median([min(one.height, one.width) for one in headers])))
    return Geometry(channels, side, side)


class HeldPixels:
    """Images decoded once, moved once to each device that asks, and indexed there."""

    def __init__(self, images: Images, rows: np.ndarray, geometry: Geometry) -> None:
        pixels_NCHW = np.empty((len(rows), *geometry.shape), np.uint8)
        for place, image in enumerate(mapped(partial(decoded, geometry), images.each(rows))):
            pixels_NCHW[place] = image
        self._on_device = {torch.device("cpu"): torch.from_numpy(pixels_NCHW)}

    def batches(
        self, orders: list[Tensor], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each order: the order and its images, on the device."""
        if device not in self._on_device:
            self._on_device[device] = self._on_device[torch.device("cpu")].to(device)
        pixels_NCHW = self._on_device[device]
        for order_B in orders:
            order_B = order_B.to(device, non_blocking=True)
            yield order_B, pixels_NCHW[order_B]


@dataclass
class StreamedPixels:
    """Images decoded by worker processes while earlier batches are used."""

    images: Seekable
    rows: np.ndarray
    geometry: Geometry

    def batches(
        self, orders: list[Tensor], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each order: the order and its images, on the device."""
        loader = DataLoader(
            _Decoding(self.images, self.rows, self.geometry),
            batch_size=None,
            sampler=[order_B.numpy() for order_B in orders],
            collate_fn=_as_is,
            generator=torch.Generator(),  # the loader would draw from the global one
            **_workers(len(self.rows)),
        )
        for order_B, found in zip(orders, loader, strict=True):
            if isinstance(found, str):
                raise ValueError(found)
            images_BCHW = torch.from_numpy(found)
            if device.type == "cuda":
                images_BCHW = images_BCHW.pin_memory()
            yield order_B.to(device, non_blocking=True), images_BCHW.to(device, non_blocking=True)


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


def channel_statistics(
    pixels: HeldPixels | StreamedPixels, count: int, geometry: Geometry
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels in [0, 1], per channel, over images spread evenly."""
    sampled = max(1, min(count, STATISTICS_PIXELS // (geometry.height * geometry.width)))
    spread_N = torch.linspace(0, count - 1, sampled, dtype=torch.float64).long()
    histogram_CP = torch.zeros(geometry.channels, 256, dtype=torch.int64)
    for _, images_BCHW in pixels.batches(list(spread_N.split(BLOCK // 4)), torch.device("cpu")):
        for channel, plane in enumerate(images_BCHW.unbind(1)):
            histogram_CP[channel] += torch.bincount(plane.flatten(), minlength=256)
    weight_CP = histogram_CP.double() / histogram_CP.sum(1, keepdim=True)
    value_P = torch.arange(256, dtype=torch.float64) / 255
    mean_C = weight_CP @ value_P
    std_C = (weight_CP * (value_P - mean_C[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean_C.tolist()), tuple(std_C.clamp_min(1 / 255).tolist())


def mapped(
    function: Callable[[str, Stored], T], items: Iterable[tuple[str, Stored]]
) -> Iterator[T]:
    """function(name, image) of each item, in order, by threads: Pillow lets them run side by side."""
    items = iter(items)
    with ThreadPoolExecutor(_cores()) as threads:
        while block := list(islice(items, BLOCK)):
            parts = [block[start : start + TASK] for start in range(0, len(block), TASK)]
            for done in threads.map(lambda part: [function(*item) for item in part], parts):
                yield from done


def _cores() -> int:
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(8, usable)


def _workers(images: int) -> dict[str, Any]:
    """The loader's worker settings. A daemonic process may not start any."""
    if images < FEWEST_FOR_WORKERS or multiprocessing.current_process().daemon:
        return {"num_workers": 0}
    # a plain fork of a process with threads may deadlock
    context = forked_from_server(["trainers.data.pixels"])
    return {"num_workers": _cores(), "multiprocessing_context": context}
