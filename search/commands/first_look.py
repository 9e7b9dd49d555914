"""What somebody's images are, as far as a study file depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.commands.data_check import UNEVEN
from trainers.data.broken import broken
from trainers.data.class_folders import layout_of
from trainers.data.decode import header
from trainers.data.mapped import mapped
from trainers.data.parquet import parquet_files
from trainers.data.paths import expanded
from trainers.data.sources import SOURCES, data_root, has_test, is_source, open_images

CUT = 1.5  # longer over shorter side, from which on a centred square loses too much of an image


@dataclass(frozen=True)
class Look:
    """What was found: images of each class, sides, aspect ratio, whether all are gray, a test part, broken images."""

    source: str
    counts: dict[str, int]  # training images by class
    side: int  # median of the shorter sides
    one_size: tuple[int, int] | None  # height and width, where all share it
    aspect: float  # median of longer over shorter side
    gray: bool
    has_test: bool
    broken: int
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        return sum(self.counts.values())

    @property
    def uneven(self) -> bool:
        return max(self.counts.values()) > UNEVEN * min(self.counts.values())


def source_of(path: str) -> str:
    """What a study file says for a path or a known data set. Raises ValueError where there are no images."""
    if is_source(path):
        return path
    folder = expanded(path)
    if not folder.is_dir():
        there = "is a file" if folder.exists() else "does not exist"
        raise ValueError(
            f"{path} {there}: give the folder of the images, or one of {', '.join(SOURCES[:-2])}"
        )
    if parquet_files(folder, "train"):
        return f"parquet:{path}"
    layout_of(folder)
    return f"folder:{path}"


def look(source: str) -> Look:
    """Look at all images of a source: headers for their sizes, and whether each can be decoded. Raises ValueError."""
    root = data_root(None)
    images = open_images(source, root, "train")
    tested = has_test(source)
    left_out = broken(images)
    broken_test = len(broken(open_images(source, root, "test", images.classes))) if tested else 0
    rows = [row for row in range(len(images.labels)) if row not in left_out]
    count_K = np.bincount(images.labels[rows], minlength=len(images.classes))
    headers = list(mapped(header, images.each(rows)))
    if not count_K.all():
        name = images.classes[int(count_K.argmin())]
        raise ValueError(f"{source}: class '{name}' has no image that can be decoded")
    sizes = {(one.height, one.width) for one in headers}
    short = [min(one.height, one.width) for one in headers]
    long = [max(one.height, one.width) for one in headers]
    return Look(
        source=source,
        counts=dict(zip(images.classes, count_K.tolist(), strict=True)),
        side=int(np.median(short)),
        one_size=next(iter(sizes)) if len(sizes) == 1 else None,
        aspect=float(np.median(np.array(long) / np.array(short))),
        gray=all(one.gray for one in headers),
        has_test=tested,
        broken=len(left_out) + broken_test,
        notes=images.notes,
    )
