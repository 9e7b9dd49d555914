"""Stored images as uint8 tensors of one size: the size, images that are held, and the statistics of their pixels.

Shapes: N images, B images of a batch, C channels, H height, W width, P = 256 pixel values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.data.augment import centre
from trainers.data.decode import Geometry, Header, Interpolation, Resize, brightest
from trainers.data.images import Images
from trainers.data.kept import kept_headers
from trainers.data.mapped import mapped
from trainers.data.streamed import StreamedPixels, sent

LARGEST_SIDE = 224  # of images whose stored sizes differ, unless the study file says otherwise
# mean and deviation are of so many at most: all of CIFAR, not of ImageNet
STATISTICS_PIXELS = 2**28
STATISTICS_BATCH = 256
DEVICE_SHARE = 0.5  # of a GPU's free memory, that images may take

DARK = 16  # of 256: colour images with 16 bits a channel whose upper 8 are all below hold their picture in the lower


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


def shapes_of(
    images: Images,
    image_size: int | None,
    resize: Resize = "crop",
    *,
    cache: Path,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bilinear",
) -> Shapes:
    """The one size and number of channels of a set; 1 channel when every image is gray.

    Headers of many images are kept below `cache`.
    """
    headers = kept_headers(images, cache)
    geometry = _geometry(headers, image_size)._replace(
        resize=resize, crop_pct=crop_pct, interpolation=interpolation
    )
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
    """Decoded images (N, C, H, W) uint8, moved once to each device that has room for them, and indexed there."""

    def __init__(self, pixels_NCHW: np.ndarray) -> None:
        self._on_device = {torch.device("cpu"): torch.from_numpy(pixels_NCHW)}

    def some(self, places_N: Tensor) -> HeldPixels:
        """The images at these places."""
        return HeldPixels(self._on_device[torch.device("cpu")][places_N].numpy())

    @property
    def nbytes(self) -> int:
        """Of all images, on each device that has them."""
        return self._on_device[torch.device("cpu")].nbytes

    def release(self) -> None:
        """Give back the memory of other devices; the next batches move the images there again."""
        self._on_device = {torch.device("cpu"): self._on_device[torch.device("cpu")]}

    def batches(
        self, orders: list[Tensor], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each order: the order and its images, on the device."""
        pixels_NCHW = self._on_device[torch.device("cpu")]
        if device not in self._on_device and pixels_NCHW.nbytes <= room_on(device):
            self._on_device[device] = pixels_NCHW.to(device)
        if device not in self._on_device:
            for order_B in orders:
                images_BCHW = sent(pixels_NCHW[order_B], device)
                yield order_B.to(device, non_blocking=True), images_BCHW
            return
        pixels_NCHW = self._on_device[device]
        for order_B in orders:
            order_B = order_B.to(device, non_blocking=True)
            yield order_B, pixels_NCHW[order_B]


def room_on(device: torch.device) -> float:
    """Bytes of the device's memory that images may take: a part of what is free, for networks need most of it."""
    if device.type != "cuda":
        return math.inf
    return DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def channel_statistics(
    pixels: HeldPixels | StreamedPixels, count: int, geometry: Geometry
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels in [0, 1], per channel, over images spread evenly.

    They are those of the centre that the geometry shows, where the images are larger.
    """
    sampled = max(1, min(count, STATISTICS_PIXELS // (geometry.height * geometry.width)))
    spread_N = torch.linspace(0, count - 1, sampled, dtype=torch.float64).long()
    histogram_CP = torch.zeros(geometry.channels, 256, dtype=torch.int64)
    for _, images_BCHW in pixels.batches(
        list(spread_N.split(STATISTICS_BATCH)), torch.device("cpu")
    ):
        shown_BCHW = centre(images_BCHW, (geometry.height, geometry.width))
        for channel, plane in enumerate(shown_BCHW.unbind(1)):
            histogram_CP[channel] += torch.bincount(plane.flatten(), minlength=256)
    weight_CP = histogram_CP.double() / histogram_CP.sum(1, keepdim=True)
    value_P = torch.arange(256, dtype=torch.float64) / 255
    mean_C = weight_CP @ value_P
    std_C = (weight_CP * (value_P - mean_C[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean_C.tolist()), tuple(std_C.clamp_min(1 / 255).tolist())
