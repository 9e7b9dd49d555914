"""Images that are in memory, written once as Parquet: from then on a source like any other, for all processes.

The folder is named by a digest of its content, so that the same images are found again and others never take their
place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynafront.encoding import picture, png

if TYPE_CHECKING:
    from PIL.Image import Image
    from pyarrow import Schema

FOLDER = "arrays"
ROWS = 1024  # encoded images in memory at a time
TRIED = 3  # images that are read twice, to see that they stay the same
ACCEPTED = (
    "give data=(train, test), each a torch Dataset of (image, label), or (images, labels) in arrays"
)


def written(pair: Any, folder: Path, say: Callable[[str], None]) -> str:
    """The source, for a study file, of the images of a pair (train, test), which are written below the data folder.

    Test may be None. Raises ValueError, which names the image, for what is no image and no label.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"data: is a {type(pair).__name__}: {ACCEPTED}")
    parts = {name: _labelled(one, name) for name, one in zip(("train", "test"), pair, strict=True)}
    train = parts["train"]
    if train is None:
        raise ValueError(f"data: train is None: {ACCEPTED}")
    classes = _classes(train)
    below = folder / FOLDER
    partial = below / f".{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        digest = hashlib.sha256(json.dumps(classes).encode())
        for name, part in parts.items():
            if part is not None:
                part = _by_name(part, train, classes)
                digest.update(_write(partial / f"{name}.parquet", name, part, classes))
        final = below / digest.hexdigest()[:16]
        if not final.exists():
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    counts = " and ".join(f"{len(part):,} {name}" for name, part in parts.items() if part)
    say(f"the study reads {counts} images from {final}, where they are written as Parquet")
    return f"parquet:{final}"


class _Arrays:
    """(image, label) of arrays of both."""

    def __init__(self, images: Any, labels: Any) -> None:
        self._images, self._labels = images, np.asarray(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self._images[row], self._labels[row]


class _Named:
    """(image, label) of a set that numbers its classes otherwise, with names in place of its numbers."""

    def __init__(self, part: Any, names: list[str]) -> None:
        self._part, self._names = part, names

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        image, label = self._part[row]
        return image, label if isinstance(label, str) else self._names[
            _index(label, self._names, "test")
        ]


def _by_name(part: Any, train: Any, classes: list[str]) -> Any:
    """The part, its labels by name where it calls its classes otherwise than train does, or has others.

    A test folder may lack a class of train: its numbers from there on are those of other classes.
    """
    names = _own_names(part)
    if not names or names == classes or not _has_names(train):
        return part
    return _Named(part, names)


def _own_names(part: Any) -> list[str]:
    """What a set, or the one that it is a part of, calls its classes; empty where it does not say."""
    while not (names := getattr(part, "classes", None)) and hasattr(part, "dataset"):
        part = part.dataset  # of a torch Subset
    return [] if names is None else list(map(str, names))


def _has_names(train: Any) -> bool:
    """Whether the classes of train are more than numbers."""
    return bool(_own_names(train)) or isinstance(train[0][1], str)


def _labelled(part: Any, name: str) -> Any:
    """The part as a sequence of (image, label); None where there is none."""
    if part is None:
        return None
    if isinstance(part, tuple) and len(part) == 2 and np.ndim(part[1]) == 1:
        images, labels = part
        if len(images) != len(labels):
            raise ValueError(f"data: {name} has {len(images):,} images and {len(labels):,} labels")
        return _Arrays(images, labels)
    if hasattr(part, "__getitem__") and hasattr(part, "__len__") and not hasattr(part, "dtype"):
        return part
    raise ValueError(f"data: {name} is a {type(part).__name__}: {ACCEPTED}")


def _classes(train: Any) -> list[str]:
    """The names of the classes: what the set calls them, or its labels in order."""
    if names := _own_names(train):
        return names
    labels = np.array([label for _, label in (train[row] for row in range(len(train)))])
    if not len(labels):
        raise ValueError("data: train holds no images")
    if labels.dtype.kind in "US":
        return [str(one) for one in np.unique(labels)]
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"data: labels of train are {_kind(labels)}: give integers from 0, or names"
        )
    return [str(number) for number in range(int(labels.max()) + 1)]


def _kind(labels: np.ndarray) -> str:
    return "negative" if labels.dtype.kind in "iu" else str(labels.dtype)


def _write(file: Path, name: str, part: Any, classes: list[str]) -> bytes:
    """Write one part; returns what tells its content from another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest, schema = hashlib.sha256(), _schema(classes)
    with pq.ParquetWriter(file, schema, compression="none") as writer:
        for rows in _blocks(_rows(name, part, classes), ROWS):
            for image, label in rows:
                digest.update(_content(image) + label.to_bytes(8, "little"))
            images, labels = [png(image) for image, _ in rows], [label for _, label in rows]
            writer.write_table(pa.table([images, labels], schema=schema))
    return digest.digest()


def _content(image: Image) -> bytes:
    """A digest of the pixels. Files of the same pixels differ with the version of what compresses them."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).digest()


def _schema(classes: list[str]) -> Schema:
    """Columns, and the names of the classes as Hugging Face keeps them."""
    import pyarrow as pa

    features = {"label": {"names": classes, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    about = json.dumps({"info": {"features": features}})
    columns = [("image", pa.large_binary()), ("label", pa.int64())]
    return pa.schema(columns, metadata={"huggingface": about})


def _rows(name: str, part: Any, classes: list[str]) -> Iterator[tuple[Image, int]]:
    """Each image and its label. Raises ValueError that names the image."""
    for row in range(len(part)):
        try:
            image, label = part[row]
            found = picture(image)
            if row < TRIED and _content(picture(part[row][0])) != _content(found):
                raise ValueError(
                    "is another one each time it is read: leave random transforms out, the search draws its own"
                )
            yield found, _number(label, classes)
        except (ValueError, TypeError) as error:
            raise ValueError(f"data: {name}, image {row}: {error}") from None


def _number(label: Any, classes: list[str]) -> int:
    if isinstance(label, str):
        if label not in classes:
            raise ValueError(
                f"label {str(label)!r} is not among those of train ({', '.join(classes[:9])})"
            )
        return classes.index(label)
    return _index(label, classes)


def _index(label: Any, classes: list[str], of: str = "train") -> int:
    number = int(label)
    if number != label or not 0 <= number < len(classes):
        raise ValueError(f"label {label} is not one of the {len(classes)} classes of {of}, from 0")
    return number


def _blocks(rows: Iterator[tuple[Image, int]], size: int) -> Iterator[list[tuple[Image, int]]]:
    """The rows in lists of at most `size`."""
    while block := list(islice(rows, size)):
        yield block
