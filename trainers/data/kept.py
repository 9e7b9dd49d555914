"""What is found out of images once and kept for other processes and the next time: headers, decoded pixels.

Everything lies below one folder, under names that tell the images from changed ones, and may be deleted at any time.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock

from trainers.data.decode import DECODER, HEADER, Geometry, Header, decoded, header
from trainers.data.images import Images
from trainers.data.mapped import mapped
from trainers.data.progress import advance

logger = logging.getLogger(f"dynafront.{__name__}")

FEWEST_HEADERS = 2_000  # images; of fewer, headers are read sooner than kept
FEWEST_BYTES = 2**20  # of pixels; fewer are decoded sooner than kept
MOST_BYTES = 32 * 2**30  # of all pixels that are kept; those used longest ago go first
SUFFIX = ".npy"


def kept_headers(images: Images, cache: Path) -> list[Header]:
    """The headers of all images, in order. Raises BrokenImageError."""

    def read() -> np.ndarray:
        rows = range(len(images.labels))
        return np.array(list(mapped(header, images.each(rows))), dtype=np.int32).reshape(-1, 5)

    found: np.ndarray | None = None
    if len(images.labels) >= FEWEST_HEADERS and (identity := images.identity()):
        file = cache / "headers" / f"{_digest(identity, f'{HEADER} {PIL.__version__}')}{SUFFIX}"
        found = _kept(file, lambda to: _save(to, read()), 20 * len(images.labels))
    known = read() if found is None else found
    return [Header(h, w, *map(bool, kinds)) for h, w, *kinds in known.tolist()]


def _save(to: Path, array: np.ndarray) -> None:
    with to.open("wb") as file:
        np.save(file, array)  # to a path it would add a suffix of its own


def kept_pixels(images: Images, rows: np.ndarray, geometry: Geometry, cache: Path) -> np.ndarray:
    """(N, C, H, W) uint8 of these rows, decoded once: all processes map one file. Raises BrokenImageError.

    Few images, and those for which the disk has no room, are decoded into the memory of this process.
    """
    shape = (len(rows), *geometry.shape)
    decode = partial(_decode, images, rows, geometry)
    if len(rows) * geometry.image_bytes >= FEWEST_BYTES and (identity := images.identity()):
        key = _digest(identity, rows.tobytes(), repr((geometry, DECODER, PIL.__version__)))
        file = cache / "decoded" / f"{key}{SUFFIX}"
        found = _kept(file, partial(_write, shape, decode), len(rows) * geometry.image_bytes)
        if found is not None:
            return found
    pixels_NCHW = np.empty(shape, np.uint8)
    decode(pixels_NCHW)
    return pixels_NCHW


def _decode(images: Images, rows: np.ndarray, geometry: Geometry, to_NCHW: np.ndarray) -> None:
    for place, image in enumerate(mapped(partial(decoded, geometry), images.each(rows))):
        advance()
        to_NCHW[place] = image


def _write(shape: tuple[int, ...], decode: Callable[[np.ndarray], None], to: Path) -> None:
    pixels = np.lib.format.open_memmap(to, mode="w+", dtype=np.uint8, shape=shape)
    decode(pixels)
    pixels.flush()


def _kept(file: Path, write: Callable[[Path], None], size: int) -> np.ndarray | None:
    """The array in the file, which `write` makes where it is not there; None where it cannot be kept.

    Another process that wants the same waits. What is changed in the array changes nothing in the file.
    """
    unfinished = file.with_name(f"{file.stem}.{os.getpid()}{SUFFIX}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.exists():
                if not _room(file.parent, size):
                    logger.info("%s: no room for %d bytes", file.parent, size)
                    return None
                write(unfinished)
                os.replace(unfinished, file)
            os.utime(file)  # it is used now
            found: np.ndarray = np.load(file, mmap_mode="c")
            return found
    except OSError as error:
        logger.info("%s cannot be kept: %s", file, error)
        return None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _room(folder: Path, size: int) -> bool:
    """Whether so many bytes may be written there; files that were used longest ago are removed for them."""
    known = sorted(folder.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime)
    used = sum(one.stat().st_size for one in known)
    while known and used + size > MOST_BYTES:
        used -= known[0].stat().st_size
        known.pop(0).unlink(missing_ok=True)
    return size <= MOST_BYTES and 2 * size <= shutil.disk_usage(folder).free


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
        found.update(b"\n")
    return found.hexdigest()[:24]
