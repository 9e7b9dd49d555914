"""Images in class folders as people have them: train and test, val in place of test, or the classes alone."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainers.data.formats import (
    holds_images,
    image_files,
    is_image,
    left_behind,
    other_text,
    unreadable_text,
)
from trainers.data.images import FileImages

Part = Literal["train", "test"]

TRAIN_NAMES = ("train", "training")
# the first of these that has class folders is the test part
TEST_NAMES = ("test", "testing", "val", "valid", "validation")
SHOWN = 5  # names of folders in a line


@dataclass(frozen=True)
class Layout:
    """Where the two parts are; no `test` where only training images are there. `notes` say what is not as usual."""

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()

    def part(self, part: Part) -> Path | None:
        return self.train if part == "train" else self.test


def layout_of(folder: Path) -> Layout:
    """Where the parts of a folder are. Raises ValueError for a test part without a train part."""
    by_name = {entry.name.lower(): entry for entry in _folders(folder)}
    parts = [by_name[name] for name in TEST_NAMES if name in by_name]
    named = [by_name[name] for name in TRAIN_NAMES if name in by_name]
    # "valid" beside "invalid" are two classes: a part has class folders of its own
    tests = [part for part in parts if part.name.lower() in TEST_NAMES[:2] or _folders(part)]
    train = next((one for one in named if _folders(one)), None)
    if train is None and named and (tests or len(by_name) == len(named) + len(parts)):
        train = named[0]  # not a class beside others, as "train" beside "bus" is
    if train is None:
        if tests:
            raise ValueError(f"folder:{folder}: no folder 'train' beside '{tests[0].name}': add it")
        return Layout(folder, None)
    beside = [one for one in by_name.values() if one != train and one not in parts]
    others = [one.name for one in beside if holds_images(one)]
    usable = [part for part in parts if _folders(part)]
    notes = [
        f"{part.name}/ has no class folders, so nothing tells what its images show: it is not used"
        for part in parts
        if part not in usable
    ]
    if others:
        more = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        names = ", ".join(f"{name}/" for name in others[:SHOWN])
        notes.append(f"{names}{more} beside {train.name}/: not used, for that has class folders")
    if not usable:
        return Layout(train, None, tuple(notes))
    if usable[0].name.lower() not in TEST_NAMES[:2]:
        notes.append(
            f"there is no test/: {usable[0].name}/ is taken for it, and measured by export alone"
        )
    notes += [
        f"{part.name}/ is not used: validation images are held out of {train.name}/"
        for part in usable[1:]
    ]
    return Layout(train, usable[0], tuple(notes))


def open_folder(folder: Path, part: Part) -> FileImages:
    """FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png; or FOLDER/CLASS/*.png, which has no test part."""
    layout = layout_of(folder)
    within = layout.part(part)
    if within is None:
        raise ValueError(f"folder:{folder}: no test images: put them in {folder / 'test'}/CLASS/")
    classes = [entry.name for entry in _folders(within)]
    if not classes:
        raise ValueError(
            f"folder:{folder}: no class folders in {within}: put images in {within}/CLASS/"
        )
    if strange := [name for name in classes if not _is_text(name)]:
        raise ValueError(
            f"folder:{folder}: the name of class folder {os.fsencode(strange[0])!r} in {within} is not UTF-8: rename it"
        )
    found, others = [], Counter[str]()
    for name in classes:
        files, rest = image_files(within / name)
        if not files and (part == "train" or unreadable_text(rest)):
            raise ValueError(_empty(folder, within / name, rest))
        found.append(files)
        others += rest
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in found])
    notes = layout.notes if part == "train" else ()
    if loose := sum(is_image(one.name) and one.is_file() for one in within.iterdir()):
        what = f"{loose:,} image{'s' * (loose != 1)} beside the class folders"
        notes += (f"{within}: {what}: of no class, so not used",)
    if left_out := unreadable_text(others):
        notes += (f"{within}: {left_out}",)
    every = [file for files in found for file in files]
    return FileImages(every, labels, tuple(classes), notes, str(within))


def _folders(folder: Path) -> list[Path]:
    """The folders in it that a person made, sorted by name."""
    below = [entry for entry in folder.iterdir() if entry.is_dir() and not left_behind(entry.name)]
    return sorted(below, key=lambda entry: entry.name)


def _is_text(name: str) -> bool:
    """Whether a card and a table can say the name; Python keeps bytes of others as what no encoding has."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _empty(folder: Path, of_class: Path, others: Counter[str]) -> str:
    instead = other_text(others)
    told = f" ({instead})" if instead else ""
    return f"folder:{folder}: no images in class folder {of_class}{told}: add some, or remove the folder"
