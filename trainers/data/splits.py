"""Image data sets as splits that yield batches of uint8 images, held in memory or streamed.

Shapes: B images of a batch, N images of a split, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.data.broken import without_broken
from trainers.data.decode import Geometry, Interpolation, Resize
from trainers.data.images import Images
from trainers.data.kept import kept_pixels
from trainers.data.memory import free_memory
from trainers.data.pixels import HeldPixels, Shapes, channel_statistics, shapes_of
from trainers.data.sources import (
    SOURCES,
    Part,
    data_root,
    open_part,
    without_flip,
)
from trainers.data.spec import DataSpec
from trainers.data.split import Batch, Split
from trainers.data.stratified import divided
from trainers.data.streamed import StreamedPixels

__all__ = ["SOURCES", "Batch", "DataSpec", "ImageData", "Split", "load", "test_split"]


FLAT = 1 / 255  # the least standard deviation of pixels that statistics give


@dataclass(frozen=True)
class ImageData:
    """What training needs. `mean` and `std` are of the training pixels in [0, 1], a value per channel.

    Networks read images of `height` and `width`. With a `crop_pct` below 1 those of `train` are larger: all of an image
    at the same scale, of which a training takes its parts, and of which the other splits have the centre.
    `flip` says whether a mirrored image keeps its label. `resize`, `crop_pct`, `interpolation` and `bits` are the
    geometry's. `notes` say what a person should know before anything is trained, a line each; `left_out` names broken
    images. `counts` are the images of each class, train and validation together; `class_weights` are those of the loss,
    None where all are 1.
    """

    train: Split
    validation: Split
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    resize: Resize = "crop"
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"
    bits: int = 16
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    class_weights: tuple[float, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that networks read."""
        return self.height, self.width

    def release(self) -> None:
        """Give back what only batches need. A process that goes on to images of another size would keep both."""
        self.train.release()
        self.validation.release()


def load(spec: DataSpec) -> ImageData:
    """The training and validation images. Test files are not opened."""
    images, shapes = _train_images(spec)
    geometry = shapes.geometry
    rows = divided(
        images.labels,
        images.classes,
        validation=spec.validation,
        limits=(spec.train_limit, spec.validation_limit),
        seed=spec.seed,
        source=spec.source,
    )
    train_held, validation_held = held_parts(
        _limit(spec),
        train=len(rows[0]) * geometry.whole.image_bytes,
        validation=len(rows[1]) * geometry.image_bytes,
    )
    train = _split(spec, images, rows[0], geometry.whole, train_held)
    validation = _split(spec, images, rows[1], geometry, validation_held)
    mean, std = channel_statistics(train.pixels, len(train), geometry)
    return ImageData(
        train=train,
        validation=validation,
        classes=images.classes,
        channels=geometry.channels,
        height=geometry.height,
        width=geometry.width,
        mean=mean,
        std=std,
        flip=not without_flip(spec.source),
        resize=geometry.resize,
        crop_pct=geometry.crop_pct,
        interpolation=geometry.interpolation,
        bits=geometry.bits,
        notes=(*images.notes, *filter(None, [shapes.note, _flat_note(std)])),
        left_out=images.left_out,
        counts=tuple(np.bincount(images.labels, minlength=len(images.classes)).tolist()),
        class_weights=balanced(train.labels) if spec.class_weights == "balanced" else None,
    )


def test_split(spec: DataSpec) -> Split:
    """The test images, with the size, channels and order of classes that `load` gives."""
    _, shapes = _train_images(spec)
    images, geometry = opened(spec, "test"), shapes.geometry
    held = len(images.labels) * geometry.image_bytes <= _limit(spec)
    return _split(spec, images, np.arange(len(images.labels)), geometry, held)


test_split.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it wherever a test imports it


def test_images(spec: DataSpec) -> Images:
    """The test images, not decoded. Raises ValueError where there are none, or they are of other classes than train."""
    images = opened(spec, "test")
    count_K = np.bincount(images.labels, minlength=len(images.classes))
    empty = [name for name, count in zip(images.classes, count_K, strict=True) if not count]
    if not empty:
        return images
    what = f"class '{empty[0]}' has no test images ({len(empty)} such)"
    if spec.source.startswith("folder:") or len(empty) == len(images.classes):
        raise ValueError(
            f"{spec.source}: {what}: add some, or remove the class from train and test"
        )
    images.notes = (*images.notes, f"{what}: export measures without them")
    return images


test_images.__test__ = False  # type: ignore[attr-defined]


def _train_images(spec: DataSpec) -> tuple[Images, Shapes]:
    images = opened(spec, "train")
    cache = data_root(spec.root)
    return images, shapes_of(
        images,
        spec.image_size,
        spec.resize,
        cache=cache,
        crop_pct=spec.crop_pct,
        interpolation=spec.interpolation,
    )


def held_parts(limit: int, train: int, validation: int) -> tuple[bool, bool]:
    """Which of two parts of so many bytes are held; validation first, for it is read after each epoch as it is."""
    validation_held = validation <= limit
    return train + validation_held * validation <= limit, validation_held


def _limit(spec: DataSpec) -> int:
    return free_memory() // 2 if spec.memory_limit is None else spec.memory_limit


def _flat_note(std: tuple[float, ...]) -> str:
    """A warning where no pixel differs from another; else empty."""
    if max(std) > FLAT:
        return ""
    return "all training images are of one flat colour: no network can tell them apart"


def balanced(labels_N: Tensor) -> tuple[float, ...]:
    """The weight of each class with which all classes count alike; their mean over the images is 1."""
    count_K = labels_N.bincount().double()
    return tuple((len(labels_N) / (len(count_K) * count_K)).tolist())


def opened(spec: DataSpec, part: Part) -> Images:
    """The images of a part as the study uses them, not decoded. Raises ValueError where there are none."""
    root = data_root(spec.root)
    images = open_part(spec.source, root, part, spec.test)
    return without_broken(images, root) if spec.skip_broken else images


def _split(
    spec: DataSpec, images: Images, rows: np.ndarray, geometry: Geometry, held: bool
) -> Split:
    pixels: HeldPixels | StreamedPixels
    if held:
        pixels = HeldPixels(kept_pixels(images, rows, geometry, data_root(spec.root)))
    else:
        pixels = StreamedPixels(images.seekable(data_root(spec.root)), rows, geometry)
    return Split(torch.from_numpy(images.labels[rows]), torch.from_numpy(rows), pixels)
