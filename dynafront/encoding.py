"""Images as programs have them, as encoded images: what readers of files can take in their place."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
DEEPEST = 2**16 - 1  # of gray in PNG
FASTEST = 1  # compression of PNG: what is written is read many times, and pixels of photos hardly shrink more


def encoded(image: Any) -> bytes:
    """The image as PNG, without loss; what `picture` takes. Raises ValueError for anything else."""
    return png(picture(image))


def picture(image: Any) -> Image.Image:
    """An upright picture of a PIL image, an array (H, W[, C]), or a torch tensor ([C,] H, W).

    Pixels are uint8, or floats from 0 to 1, which are rounded to 8 bits. Raises ValueError for anything else.
    """
    found = image if isinstance(image, Image.Image) else _of_pixels(image)
    upright = ImageOps.exif_transpose(found)
    if upright.mode == "F":
        raise ValueError("floating-point pixels in a PIL image: give 8 or 16 bits a channel")
    # gray of 16 or 32 bits, in any order of bytes; Pillow would clip it to 8
    if upright.mode.startswith("I"):
        return Image.fromarray(np.asarray(upright).clip(0, DEEPEST).astype(np.uint16))
    return upright if upright.mode in PNG_MODES else upright.convert("RGB")


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=FASTEST)
    return file.getvalue()


def _of_pixels(image: Any) -> Image.Image:
    """A picture of the pixels of an array or a tensor."""
    pixels = _channels_last(image)
    if pixels.dtype == np.bool_:
        raise ValueError("pixels are bool: give uint8, or floats from 0 to 1")
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = _eight_bit(pixels)
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype}: give uint8, or floats from 0 to 1")
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _channels_last(image: Any) -> np.ndarray:
    planes_first = hasattr(image, "detach")  # a tensor; torch is not imported to see it
    array = np.asarray(image.detach().cpu() if planes_first else image)
    if planes_first and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        order = "(C, H, W)" if planes_first else "(H, W, C)"
        raise ValueError(
            f"an image has shape {_shape(image)}: give (H, W), or {order} with 1 or 3 channels"
        )
    return np.ascontiguousarray(array)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"pixels are floats from {low:g} to {high:g}: give them from 0 to 1, before they are normalised, or uint8"
        )
    return np.round(pixels * 255).astype(np.uint8)


def _shape(image: Any) -> str:
    shape = getattr(image, "shape", None)
    return type(image).__name__ if shape is None else str(tuple(shape))
