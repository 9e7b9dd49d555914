"""A labelled set of images as it is stored: arrays, files or encoded bytes, not yet of one size."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Stored = Path | bytes | np.ndarray  # a file, an encoded image, or pixels (H, W) or (H, W, 3) uint8
SAMPLED = 256  # images whose bytes tell a set from a changed one
SAMPLED_BYTES = 2**16  # of each


class Seekable(ABC):
    """Images that can be read in any order, also after being sent to another process."""

    @abstractmethod
    def at(self, row: int) -> tuple[str, Stored]:
        """The name of the image, for messages, and the image."""


class Images(ABC):
    """The images of one part (train or test) of a set: labels (N,) int64 and the names of the classes.

    `notes` say what a person should know of how they were found, a line each; `left_out` names broken images.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @abstractmethod
    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[str, Stored]]:
        """Name and image of each of the rows, which are in ascending order."""

    @abstractmethod
    def seekable(self, folder: Path) -> Seekable:
        """The same images for reading in any order; what must be written for it goes below `folder`."""

    @abstractmethod
    def marks(self) -> Iterator[bytes]:
        """What tells the set from a changed one, wherever it lies: names and sizes of all, bytes of some."""

    def stamps(self) -> Iterator[str]:
        """What tells files from changed ones on this machine: path, size and time of each."""
        return iter(())

    def identity(self) -> str:
        """A digest of what tells the images from others on this machine; empty where nothing does."""
        found, known = hashlib.sha256(), False
        for mark in self.stamps():
            found.update(f"{mark}\n".encode(errors="surrogateescape"))
            known = True
        return found.hexdigest() if known else ""


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

    def marks(self) -> Iterator[bytes]:
        yield repr(self.pixels.shape).encode()
        yield from (self.pixels[row].tobytes() for row in sampled(len(self.pixels)))

    def identity(self) -> str:
        """A digest of all pixels: there is no file that says when they changed."""
        found = hashlib.sha256(repr(self.pixels.shape).encode())
        found.update(np.ascontiguousarray(self.pixels).data)
        return found.hexdigest()


@dataclass
class FileImages(_InPlace):
    """One file an image; `root` is the folder that their names count from when sets are compared."""

    files: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    root: str = ""

    def at(self, row: int) -> tuple[str, Stored]:
        return self.files[row], Path(self.files[row])

    def marks(self) -> Iterator[bytes]:
        for file in self.files:
            name = os.path.relpath(file, self.root) if self.root else file
            yield f"{name} {os.stat(file).st_size}".encode(errors="surrogateescape")
        for row in sampled(len(self.files)):
            with open(self.files[row], "rb") as image:
                yield image.read(SAMPLED_BYTES)

    def stamps(self) -> Iterator[str]:
        return map(stamp, self.files)


@dataclass
class ChosenImages(Images):
    """Some rows of a set, in ascending order, as a set of its own."""

    whole: Images
    rows: np.ndarray
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.labels, self.classes = self.whole.labels[self.rows], self.whole.classes
        self.notes = (*self.whole.notes, *self.notes)

    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[str, Stored]]:
        return self.whole.each(self.rows[np.asarray(rows, dtype=np.int64)])

    def seekable(self, folder: Path) -> Seekable:
        return _ChosenSeekable(self.whole.seekable(folder), self.rows)

    def marks(self) -> Iterator[bytes]:
        yield from self.whole.marks()
        yield self.rows.tobytes()

    def stamps(self) -> Iterator[str]:
        yield from self.whole.stamps()
        yield hashlib.sha256(self.rows.tobytes()).hexdigest()


@dataclass
class _ChosenSeekable(Seekable):
    whole: Seekable
    rows: np.ndarray

    def at(self, row: int) -> tuple[str, Stored]:
        return self.whole.at(int(self.rows[row]))


def stamp(file: str | Path) -> str:
    """Path, size and time of a file."""
    known = os.stat(file)
    return f"{os.path.abspath(file)} {known.st_size} {known.st_mtime_ns}"


def sampled(count: int) -> list[int]:
    """Up to SAMPLED rows, spread evenly."""
    return sorted({int(row) for row in np.linspace(0, count - 1, min(count, SAMPLED))})
