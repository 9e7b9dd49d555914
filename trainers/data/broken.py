"""Images that cannot be decoded: found before anything is trained, and left out where the study says so."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import PIL

from trainers.data.decode import DECODER, BrokenImageError, Geometry, decoded
from trainers.data.images import ArrayImages, ChosenImages, Images, Stored
from trainers.data.mapped import mapped

SHOWN = 5  # names of broken images in a line
TRIED = Geometry(3, 8, 8)  # a small one: JPEG files decode faster


def check_decodes(images: Images) -> None:
    """Decode every image and keep none. Raises BrokenImageError for the first that cannot be."""
    for _ in mapped(_decode, images.each(range(len(images.labels)))):
        pass


def without_broken(images: Images, cache: Path) -> Images:
    """The images that can be decoded. What was found is kept below `cache` for other processes and the next time."""
    if isinstance(images, ArrayImages):
        return images
    # another version may decode what this one cannot
    key = hashlib.sha256(f"{images.identity()} {DECODER} {PIL.__version__}".encode()).hexdigest()
    known = cache / "broken" / f"{key[:16]}.json"
    if known.is_file():
        found = {int(row): name for row, name in json.loads(known.read_text()).items()}
    else:
        found = broken(images)
        _keep(known, found)
    if not found:
        return images
    rows = np.setdiff1d(np.arange(len(images.labels)), list(found))
    names = tuple(found.values())
    return ChosenImages(images, rows, (_note(names),), names)


def broken(images: Images) -> dict[int, str]:
    """The names of the images that cannot be decoded, by row."""
    told = mapped(_broken_name, images.each(range(len(images.labels))))
    return {row: name for row, name in enumerate(told) if name}


def _note(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    what = "image is" if len(names) == 1 else "images are"
    return f"{len(names):,} broken {what} left out: {', '.join(names[:SHOWN])}{more}"


def _decode(name: str, stored: Stored) -> None:
    decoded(TRIED, name, stored)


def _broken_name(name: str, stored: Stored) -> str:
    """The name of an image that cannot be decoded, nothing of one that can."""
    try:
        decoded(TRIED, name, stored)
    except BrokenImageError:
        return name
    return ""


def _keep(path: Path, found: dict[int, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(found))
    partial.rename(path)  # whole or not at all: another process may be about to read it
