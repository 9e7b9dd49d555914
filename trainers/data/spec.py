"""Which images a training takes: plain values, for programs that must not load PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.data.decode import RESIZES, Interpolation, Resize
from trainers.data.sources import checked_source


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images, how many of them, and at what size.

    `root` is where torchvision sets lie (else the environment's DYNAFRONT_DATA, else ~/.cache/dynafront).
    `validation` is the share of the training images held out; the limits apply after it and keep the balance
    of classes. `image_size` is the side of a square; None keeps the stored size when all share one, else
    takes the median shorter side, at most 224. Images of up to `memory_limit` bytes of pixels are held, others
    decoded as they are needed; None is half of the memory that is free.
    `test` is the share of the images held out as test where a source has no test images; None holds out none.
    `resize` is what is done to images of another aspect ratio. `skip_broken` leaves out what cannot be decoded.
    `crop_pct` and `interpolation` are the geometry's, see trainers.data.decode.
    `class_weights` "balanced" lets every class count alike in the training's loss, however many images it has.
    """

    source: str
    root: str | None = None
    validation: float = 0.1
    test: float | None = None
    resize: Resize = "crop"
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"
    skip_broken: bool = False
    class_weights: Literal["none", "balanced"] = "none"
    train_limit: int | None = None
    validation_limit: int | None = None
    image_size: int | None = None
    seed: int = 0
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        checked_source(self.source)
        if not 0 < self.validation < 1:
            raise ValueError(
                f"validation: {self.validation} is not between 0 and 1 (the share of train held out)"
            )
        if self.test is not None and not 0 < self.test < 1:
            raise ValueError(
                f"test: {self.test} is not between 0 and 1 (the share held out for export)"
            )
        if self.resize not in RESIZES:
            raise ValueError(f"resize: {self.resize} is not one of {', '.join(RESIZES)}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(
                f"crop_pct: {self.crop_pct} is not above 0 and at most 1 (the share of the sides that is used)"
            )
        for key, least in (
            ("train_limit", 1),
            ("validation_limit", 1),
            ("image_size", 1),
            ("seed", 0),
        ):
            given = getattr(self, key)
            if given is not None and given < least:
                raise ValueError(
                    f"{key}: {given} is too small: give {least} or more, or leave it out"
                )
