"""One stored image as uint8 pixels of the wanted size and channels."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from trainers.data.images import Stored

GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION = 0x0112  # the EXIF tag; 5 and above swap height and width, as photos held upright do


class Geometry(NamedTuple):
    """Channels (1 gray, 3 RGB), height and width of the decoded images of a set."""

    channels: int
    height: int
    width: int

    @property
    def image_bytes(self) -> int:
        return self.channels * self.height * self.width


def header(name: str, stored: Stored) -> tuple[int, int, bool]:
    """Height, width, and whether the image is gray, without decoding its pixels."""
    if isinstance(stored, np.ndarray):
        return stored.shape[0], stored.shape[1], stored.ndim == 2
    try:
        with _opened(stored) as image:
            sideways = image.getexif().get(ORIENTATION, 1) >= 5
            height, width = (image.width, image.height) if sideways else (image.height, image.width)
            return height, width, image.mode in GRAY_MODES
    except Exception as error:  # what Pillow raises on broken files is not one family of exceptions
        raise _broken(name, error) from error


def decoded(geometry: Geometry, name: str, stored: Stored) -> np.ndarray:
    """Pixels (C, H, W) uint8: the largest centred part with the wanted aspect ratio, resized."""
    channels, height, width = geometry
    try:
        with _opened(stored) as image:
            # Lets JPEG decode at a fraction of its size; twice what is wanted keeps the resizing as good.
            image.draft(None, (2 * max(height, width), 2 * max(height, width)))
            flat = _eight_bit(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except Exception as error:
        raise _broken(name, error) from error
    pixels = np.asarray(_fitted(flat, height, width))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(stored: Stored) -> Image.Image:
    if isinstance(stored, np.ndarray):
        return Image.fromarray(stored)
    return Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels: save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip instead of scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode in ("P", "PA"):
        # straight to RGB, Pillow warns of transparency stored as bytes
        image = image.convert("RGBA")
    else:
        image.load()
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _broken(name: str, error: Exception) -> ValueError:
    what = str(error) if isinstance(error, ValueError) else "not an image that can be read"
    return ValueError(
        f"{name}: {what if what else 'broken image'}: replace the file or leave it out"
    )
