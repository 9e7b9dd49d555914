"""One stored image as uint8 pixels of the wanted size and channels."""

from __future__ import annotations

import errno
import io
from math import ceil
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image, ImageOps

from trainers.data.formats import readable
from trainers.data.images import Stored

HEADER = 2  # raised where `header` says something else than before
DECODER = 1  # raised where `decoded` makes other pixels than before: those that are kept are then decoded anew
GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION = 0x0112  # the EXIF tag; 5 and above swap height and width, as photos held upright do
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags
Resize = Literal["crop", "pad", "squash"]
RESIZES: tuple[str, ...] = get_args(Resize)
Interpolation = Literal["bilinear", "bicubic"]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class BrokenImageError(ValueError):
    """An image that cannot be decoded; the message names it."""


class UnreadImageError(ValueError):
    """An image that could not be read this time, though it need not be broken; the message names it, and why."""


class Geometry(NamedTuple):
    """Channels (1 gray, 3 RGB), height and width of the decoded images of a set, and how they are brought to it.

    `resize`: "crop" takes the largest centred part with the wanted aspect ratio, "pad" keeps all and adds black
    borders, "squash" keeps all and changes the aspect ratio. `bits` are those that the brightest pixel of the set
    takes in gray images of more than 8 bits; the upper 8 of them are kept. `crop_pct`: of what `resize` leaves this
    share of both sides is used, the centre, as timm's models are tested; `interpolation` is how it is resized.
    """

    channels: int
    height: int
    width: int
    resize: Resize = "crop"
    bits: int = 16
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def whole(self) -> Geometry:
        """All that `resize` leaves at the same scale, of which this geometry is the centre."""
        height, width = (round(side / self.crop_pct) for side in (self.height, self.width))
        return self._replace(height=height, width=width, crop_pct=1.0)

    @property
    def image_bytes(self) -> int:
        return self.channels * self.height * self.width


class Header(NamedTuple):
    """What is known of an image without decoding its pixels.

    `deep`: gray with more than 8 bits a pixel. `upper`: colour with 16 bits a channel; Pillow keeps the upper 8.
    """

    height: int
    width: int
    gray: bool
    deep: bool = False
    upper: bool = False


def header(name: str, stored: Stored) -> Header:
    """Height, width, and what kind of image it is, without decoding its pixels.

    Raises BrokenImageError, and UnreadImageError or MemoryError for what is not the image's fault.
    """
    if isinstance(stored, np.ndarray):
        return Header(stored.shape[0], stored.shape[1], stored.ndim == 2)
    try:
        with _opened(stored) as image:
            # before the EXIF tag is asked for, which may decode the image and empty `tile`
            deep, sixteen = image.mode.startswith("I"), ";16" in str(getattr(image, "tile", ""))
            sideways = image.getexif().get(ORIENTATION, 1) >= 5
            width, height = _stored_size(image)
            if sideways:
                height, width = width, height
            return Header(height, width, image.mode in GRAY_MODES, deep, sixteen and not deep)
    except Exception as error:  # what Pillow raises on broken files is not one family of exceptions
        raise _named(name, error) from error


def brightest(name: str, stored: Stored) -> int:
    """The highest value of an image, as Pillow reads it, without transparency. Raises as `header` does."""
    try:
        with _opened(stored) as image:
            return int(
                np.asarray(image if image.mode.startswith("I") else image.convert("RGB")).max()
            )
    except Exception as error:
        raise _named(name, error) from error


def decoded(geometry: Geometry, name: str, stored: Stored) -> np.ndarray:
    """Pixels (C, H, W) uint8 as the geometry says. Raises as `header` does."""
    channels, height, width = geometry.shape
    twice = 2 * ceil(max(height, width) / geometry.crop_pct)
    try:
        with _opened(stored) as image:
            # Lets JPEG decode at a fraction of its size; twice what is wanted keeps the resizing as good.
            image.draft(None, (twice, twice))
            ImageOps.exif_transpose(image, in_place=True)  # else it copies images that are upright
            flat = _eight_bit(image, "L" if channels == 1 else "RGB", geometry.bits)
    except Exception as error:
        raise _named(name, error) from error
    pixels = np.asarray(_fitted(flat, geometry))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before the EXIF tag is followed; of TIFF files some versions of Pillow follow it in `size`."""
    tags = getattr(image, "tag_v2", None)
    return (tags[TIFF_WIDTH], tags[TIFF_HEIGHT]) if tags else image.size


def _opened(stored: Stored) -> Image.Image:
    if isinstance(stored, np.ndarray):
        return Image.fromarray(stored)
    readable()  # Pillow learns the formats of its plugins
    return Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored)


def _eight_bit(image: Image.Image, mode: str, bits: int) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels: save it with 8 or 16 bits a channel")
    if image.mode.startswith(
        "I"
    ):  # more than 8 bits a pixel, which Pillow would clip instead of scale
        deep = np.asarray(image).clip(0, 2**bits - 1)
        image = Image.fromarray((deep >> max(0, bits - 8)).astype(np.uint8))
    elif "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = _on_white(image)
    elif image.mode == "P":
        image = image.convert("RGB")
    else:
        image.load()
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image) -> Image.Image:
    """A picture with transparent parts on white, as pages show it: a logo may be in its transparency alone."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _fitted(image: Image.Image, geometry: Geometry) -> Image.Image:
    height, width, share = geometry.height, geometry.width, geometry.crop_pct
    how = FILTERS[geometry.interpolation]
    if image.size == (width, height) and share == 1:
        return image
    if geometry.resize == "pad":
        frame = round(width / share), round(height / share)
        x, y = (frame[0] - width) // 2, (frame[1] - height) // 2
        return ImageOps.pad(image, frame, how).crop((x, y, x + width, y + height))
    across, down = image.width / width, image.height / height
    if geometry.resize == "crop":
        across = down = min(across, down)
    across = min(image.width, across * share * width)
    down = min(image.height, down * share * height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return image.resize((width, height), how, box=(left, top, left + across, top + down))


def _named(name: str, error: Exception) -> Exception:
    """What is raised for an image that was not decoded: it is broken, unless the system could not read it this time."""
    if isinstance(error, BrokenImageError):
        return error
    if isinstance(error, MemoryError):
        return MemoryError(f"{name}: no memory to decode it")
    # Pillow gives its own no number; a broken file may lead it to a place before the file's beginning, which is EINVAL
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return UnreadImageError(f"{name}: {error.strerror}")
    what = str(error) if isinstance(error, ValueError) else "not an image that can be read"
    return BrokenImageError(
        f"{name}: {what if what else 'broken image'}: replace the file or leave it out"
    )
