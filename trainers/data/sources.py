"""Where images come from: what a study file may say, and the labelled set behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from trainers.data.array_sets import TORCHVISION_SETS, digits, torchvision_set
from trainers.data.class_folders import layout_of, open_folder
from trainers.data.images import ChosenImages, Images
from trainers.data.paths import expanded
from trainers.data.stratified import apart

SOURCES: tuple[str, ...] = ("digits", *TORCHVISION_SETS, "folder:PATH", "parquet:PATH")
Part = Literal["train", "test"]


def is_source(text: str) -> bool:
    """Whether a study file may name this as its data."""
    kind, separator, path = text.partition(":")
    return (text in SOURCES and not separator) or (kind in ("folder", "parquet") and bool(path))


def checked_source(source: str) -> str:
    """The source, or ValueError when a study file may not say it."""
    if is_source(source):
        return source
    raise ValueError(f"source: '{source}' is not a data set: give one of {', '.join(SOURCES)}")


def folder_of(source: str) -> Path | None:
    """The folder of images that a source names; None for a set by name. Raises ValueError when it is not there."""
    kind, _, path = checked_source(source).partition(":")
    if kind not in ("folder", "parquet"):
        return None
    folder = expanded(path)
    if not folder.is_dir():
        there = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(
            f"{source}: {folder.absolute()} {there}: give the folder of images after '{kind}:'"
        )
    return folder


def without_flip(source: str) -> bool:
    """Whether a mirrored image means something else: digits and letters do."""
    return source in ("digits", "mnist", "svhn")


def data_root(root: str | None) -> Path:
    """The folder of torchvision sets: `root`, else DYNAFRONT_DATA, else ~/.cache/dynafront."""
    return expanded(root or os.environ.get("DYNAFRONT_DATA") or "~/.cache/dynafront")


def open_part(source: str, root: Path, part: Part, test: float | None = None) -> Images:
    """One part of a source; with `test`, a source without test images gives that share of its train images as test.

    Which ones does not depend on a study's seed: every study of the set leaves the same images for its export.
    """
    if test is None or has_test(source):
        train = open_images(source, root, "train")
        return train if part == "train" else open_images(source, root, "test", train.classes)
    whole = open_images(source, root, "train")
    left, taken = apart(whole.labels, whole.classes, test, source)
    if part == "test":
        return ChosenImages(whole, taken)
    note = (
        f"there are no test images: {len(taken):,} of the {len(whole.labels):,} images, of each class its share, are "
        "left for export as test images (`test` in the study file)"
    )
    return ChosenImages(whole, left, (note,))


def has_test(source: str) -> bool:
    """Whether the source has a test part of its own."""
    kind, _, path = checked_source(source).partition(":")
    folder = expanded(path)
    if kind not in ("folder", "parquet") or not folder.is_dir():
        return True
    if kind == "folder":
        return bool(layout_of(folder).test)
    # pyarrow is slow to import, and few studies need it
    from trainers.data.parquet import parquet_files

    return bool(parquet_files(folder, "test"))


def open_images(
    source: str, root: Path, part: Part, classes: tuple[str, ...] | None = None
) -> Images:
    """One part of a source as it lies. `classes` are those of train, which the test part must agree with."""
    folder, kind = folder_of(source), source.partition(":")[0]
    if folder is None:
        return digits(part) if kind == "digits" else torchvision_set(kind, root, part)
    images = open_folder(folder, part) if kind == "folder" else _parquet(folder, part, classes)
    if classes is not None and images.classes != classes:
        raise ValueError(
            f"{source}: {_difference(classes, images.classes)}: give both the same classes"
        )
    return images


def _parquet(folder: Path, part: Part, classes: tuple[str, ...] | None) -> Images:
    from trainers.data.parquet import open_parquet

    return open_parquet(folder, part, classes)


def _difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if missing:
        return f"class '{missing[0]}' of train is not in test ({len(missing)} such)"
    if extra:
        return f"class '{extra[0]}' of test is not in train ({len(extra)} such)"
    return "train and test name their classes in another order"
