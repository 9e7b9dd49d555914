"""Classes with the names of parts, links and images beside class folders, images that cannot be read today, photos that
lie on their side.
"""

from __future__ import annotations

import errno
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainers.data import broken, decode
from trainers.data.decode import BrokenImageError, Geometry, UnreadImageError, decoded, header
from trainers.data.splits import DataSpec, load, opened


def image(value: int, side: int = 6) -> Image.Image:
    """Noise that tells it from others."""
    pixels = np.random.default_rng(value).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(folder: Path, count: int = 4, salt: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        image(salt + i).save(folder / f"{i:03}.png")


def folder_of(root: Path, *parts: str, count: int = 4) -> DataSpec:
    """`root` with two classes in each part."""
    for p, part in enumerate(parts):
        for c, name in enumerate(("ant", "bee")):
            fill(root / part / name, count, 1000 * p + 100 * c)
    return DataSpec(source=f"folder:{root}")


def test_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        fill(tmp_path / name)
    assert load(DataSpec(source=f"folder:{tmp_path}")).classes == ("bus", "car", "train")


def test_folders_beside_the_parts_are_told(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "test")
    for i in range(7):
        fill(tmp_path / f"more{i}" / "deep")
    (tmp_path / "notes").mkdir()
    assert load(spec).classes == ("ant", "bee")
    assert load(spec).notes == (
        "more0/, more1/, more2/, more3/, more4/ and 2 more beside train/: not used, for that has class folders",
    )


@pytest.mark.parametrize("others", [(), ("test",), ("masks", "test"), ("masks", "val/ant")])
def test_train_without_class_folders_is_told_beside_other_parts(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    for name in ("train", *others):
        fill(tmp_path / name)
    with pytest.raises(ValueError, match=r"no class folders in .*train: put images in"):
        load(DataSpec(source=f"folder:{tmp_path}"))


def test_a_link_back_into_its_own_tree_brings_no_image_twice(tmp_path: Path) -> None:
    spec = folder_of(tmp_path / "images", "train")
    ant = tmp_path / "images" / "train" / "ant"
    fill(tmp_path / "pool", salt=50)
    for name, to in {"a": ant, "b": ant.parent, "c": tmp_path, "d": tmp_path / "pool"}.items():
        (ant / name).symlink_to(to)
    (ant / "e").symlink_to(tmp_path / "pool")
    assert opened(spec, "train").labels.tolist() == [0] * 8 + [1] * 4


def test_images_beside_class_folders_are_told(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train")
    image(1).save(tmp_path / "train" / "loose.png")
    (tmp_path / "train" / "labels.csv").write_text("")
    within = tmp_path / "train"
    assert load(spec).notes == (
        f"{within}: 1 image beside the class folders: of no class, so not used",
    )
    image(1).save(tmp_path / "train" / "more.PNG")
    assert load(spec).notes == (
        f"{within}: 2 images beside the class folders: of no class, so not used",
    )


@pytest.mark.parametrize("kind", ["too many files", "memory"])
def test_what_passes_calls_no_image_broken_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source = folder_of(tmp_path / "images", "train", count=6).source
    file = tmp_path / "images" / "train" / "ant" / "003.png"
    spec = DataSpec(source=source, root=str(tmp_path / "cache"), skip_broken=True)
    error = OSError(errno.EMFILE, "Too many open files") if kind != "memory" else MemoryError()

    def failing(stored: Any) -> Image.Image:
        if stored == file:
            raise error
        return readable(stored)

    readable = decode._opened
    monkeypatch.setattr(decode, "_opened", failing)
    told = "Too many open files" if kind != "memory" else "no memory to decode it"
    raised = ValueError if kind != "memory" else MemoryError
    with pytest.raises(raised, match=f"^{re.escape(str(file))}: {told}$"):
        load(spec)
    monkeypatch.undo()
    assert load(spec).left_out == ()


def test_an_image_is_broken_where_its_own_bytes_lead_nowhere(tmp_path: Path) -> None:
    whole, file = io.BytesIO(), tmp_path / "short.png"
    image(0, 64).save(whole, "PNG")
    file.write_bytes(whole.getvalue()[:-2000])
    with pytest.raises(BrokenImageError):
        decoded(Geometry(3, 6, 6), "short", file)
    with pytest.raises(UnreadImageError, match=r"^gone\.png: No such file or directory$"):
        decoded(Geometry(3, 6, 6), "gone.png", tmp_path / "gone.png")


def test_another_version_of_what_decodes_looks_for_broken_images_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = folder_of(tmp_path / "images", "train", count=6)
    spec = replace(spec, root=str(tmp_path / "cache"), skip_broken=True)
    assert opened(spec, "train").left_out == ()
    found = {0: "one"}
    monkeypatch.setattr(broken, "broken", lambda images: found)
    assert opened(spec, "train").left_out == ()
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert opened(spec, "train").left_out == ("one",)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("turned", [1, 3, 5, 6, 7, 8])
def test_a_header_has_the_sides_of_a_photo_as_it_is_shown(
    tmp_path: Path, suffix: str, turned: int
) -> None:
    tag, file = Image.Exif(), tmp_path / f"photo.{suffix}"
    tag[0x0112] = turned
    half = np.zeros((40, 60, 3), np.uint8)
    half[:, :30] = 255
    Image.fromarray(half).save(file, exif=tag)
    height, width = (60, 40) if turned >= 5 else (40, 60)
    found = header("photo", file)
    assert (found.height, found.width) == (height, width)
    shown = decoded(Geometry(3, height, width), "photo", file)[0]
    with Image.open(file) as photo:
        upright = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))[..., 0]
    assert np.abs(shown.astype(int) - upright).max() < 20
