"""What tells a data set from a changed one, small enough to be stored with a study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from trainers.data.images import Images
from trainers.data.splits import DataSpec, ImageData, opened


def fingerprint(spec: DataSpec, data: ImageData) -> dict[str, Any]:
    """Classes, images of each, shape of the decoded images, and a digest of names and sampled bytes, as JSON.

    Of the images that are trained and validated on; test images are not in it. A folder that was moved keeps its own.
    """
    return {
        "classes": list(data.classes),
        "counts": list(data.counts),
        "shape": [data.channels, data.height, data.width],
        "digest": digest(opened(spec, "train")),
    }


def digest(images: Images) -> str:
    """A hash of the labels, the names and sizes of all images, and bytes of some."""
    found = hashlib.sha256()
    for mark in (repr(images.classes).encode(errors="surrogateescape"), images.labels.tobytes()):
        found.update(mark)
    for mark in images.marks():
        found.update(hashlib.sha256(mark).digest())
    return found.hexdigest()[:32]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How the data of two fingerprints differ, in words; empty where they are the same."""
    was, has = list(before["classes"]), list(now["classes"])
    if added := [name for name in has if name not in was]:
        return f"class {added[0]!r} is new ({len(was)} classes then, {len(has)} now)"
    if gone := [name for name in was if name not in has]:
        return f"class {gone[0]!r} is gone ({len(was)} classes then, {len(has)} now)"
    if was != has:
        return "the classes are in another order"
    for name, then, count in zip(was, before["counts"], now["counts"], strict=True):
        if then != count:
            return f"class {name!r} had {then:,} images and has {count:,} now"
    if list(before["shape"]) != list(now["shape"]):
        return f"images are {_size(now)} now, they were {_size(before)}"
    return "" if before["digest"] == now["digest"] else "some images are others than then"


def _size(one: Mapping[str, Any]) -> str:
    channels, height, width = one["shape"]
    return f"{'gray' if channels == 1 else 'RGB'}, {width} x {height}"
