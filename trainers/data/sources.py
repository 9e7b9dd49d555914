"""Where images come from: what a study file may say, and the labelled set behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from trainers.data.array_sets import TORCHVISION_SETS, digits, torchvision_set
from trainers.data.images import FileImages, Images
from trainers.data.parquet import open_parquet
from trainers.data.paths import expanded

SOURCES: tuple[str, ...] = ("digits", *TORCHVISION_SETS, "folder:PATH", "parquet:PATH")
Part = Literal["train", "test"]

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
_PARTS_OF_A_SET = (
    "test",
    "val",
    "valid",
    "validation",
)  # folders beside a train/, and no names of classes


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


def open_images(
    source: str, root: Path, part: Part, classes: tuple[str, ...] | None = None
) -> Images:
    """One part of a source. `classes` are those of train, which the test part must agree with."""
    folder, kind = folder_of(source), source.partition(":")[0]
    if folder is None:
        return digits(part) if kind == "digits" else torchvision_set(kind, root, part)
    images = open_folder(folder, part) if kind == "folder" else open_parquet(folder, part, classes)
    if classes is not None and images.classes != classes:
        raise ValueError(
            f"{source}: {_difference(classes, images.classes)}: give both the same classes"
        )
    return images


def open_folder(folder: Path, part: Part) -> Images:
    """FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png; or FOLDER/CLASS/*.png, which has no test part."""
    within = folder / part
    if not within.is_dir():
        if part == "test":
            raise ValueError(f"folder:{folder}: no test images: put them in {within}/CLASS/")
        parts = [name for name in _PARTS_OF_A_SET if (folder / name).is_dir()]
        if parts:
            raise ValueError(f"folder:{folder}: no folder 'train' beside '{parts[0]}': add it")
        within = folder
    classes = sorted(
        entry.name for entry in within.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(
            f"folder:{folder}: no class folders in {within}: put images in {within}/CLASS/"
        )
    files = [_image_files(within / name) for name in classes]
    for name, found in zip(classes, files, strict=True):
        if not found and part == "train":
            raise ValueError(
                f"folder:{folder}: no images in class folder {within / name}: add some, or remove the folder"
            )
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return FileImages([file for found in files for file in found], labels, tuple(classes))


def _image_files(folder: Path) -> list[str]:
    """The images at any depth below a class folder, sorted. Hidden files and other kinds are skipped."""
    files = []
    for where, below, names in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        files += [
            os.path.join(where, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES
        ]
    return sorted(files)


def _difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if missing:
        return f"class '{missing[0]}' of train is not in test ({len(missing)} such)"
    if extra:
        return f"class '{extra[0]}' of test is not in train ({len(extra)} such)"
    return "train and test name their classes in another order"
