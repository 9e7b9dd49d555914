"""A labelled set of images as it is stored: arrays, files or encoded bytes, not yet of one size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Stored = Path | bytes | np.ndarray  # a file, an encoded image, or pixels (H, W) or (H, W, 3) uint8


class Seekable(ABC):
    """Images that can be read in any order, also after being sent to another process."""

    @abstractmethod
    def at(self, row: int) -> tuple[str, Stored]:
        """The name of the image, for messages, and the image."""


class Images(ABC):
    """The images of one part (train or test) of a set: labels (N,) int64 and the names of the classes."""

    labels: np.ndarray
    classes: tuple[str, ...]

    @abstractmethod
    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[str, Stored]]:
        """Name and image of each of the rows, which are in ascending order."""

    @abstractmethod
    def seekable(self, folder: Path) -> Seekable:
        """The same images for reading in any order; what must be written for it goes below `folder`."""


class _InPlace(Images, Seekable):
    """Images that can be read in any order as they lie."""

    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[str, Stored]]:
        return (self.at(int(row)) for row in rows)

    def seekable(self, folder: Path) -> Seekable:
        return self


@dataclass
class ArrayImages(_InPlace):
    """Pixels (N, H, W) or (N, H, W, 3) uint8 in memory."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def at(self, row: int) -> tuple[str, Stored]:
        return f"image {row}", self.pixels[row]


@dataclass
class FileImages(_InPlace):
    """One file an image."""

    files: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]

    def at(self, row: int) -> tuple[str, Stored]:
        return self.files[row], Path(self.files[row])
