"""Folders and files as people have them: parts by other names, what systems leave behind, images that are broken."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, features

from trainers.data import formats
from trainers.data.broken import check_decodes
from trainers.data.decode import BrokenImageError, Geometry, decoded
from trainers.data.fingerprint import difference, fingerprint
from trainers.data.splits import DataSpec, load, opened, test_images, test_split


def image(value: int, size: tuple[int, int] = (6, 6)) -> Image.Image:
    """Noise that tells it from others; size is (width, height)."""
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(folder: Path, count: int = 4, salt: int = 0, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        image(salt + i).save(folder / f"{i:03}.{suffix}")
    return folder


def folder_of(root: Path, *parts: str, count: int = 4) -> DataSpec:
    """`root` with two classes in each part; a part "" is the classes alone."""
    for p, part in enumerate(parts):
        for c, name in enumerate(("ant", "bee")):
            fill(root / part / name, count, 1000 * p + 100 * c)
    return DataSpec(source=f"folder:{root}")


def parquet_of(root: Path, part: str, labels: list[int]) -> DataSpec:
    encoded = []
    for i in range(len(labels)):
        file = io.BytesIO()
        image(len(part) * 100 + i).save(file, "PNG")
        encoded.append(file.getvalue())
    root.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": encoded, "label": labels}), root / f"{part}.parquet")
    return DataSpec(source=f"parquet:{root}", root=str(root))


def rows(spec: DataSpec) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """The pixels of train, validation and test."""
    data = load(spec)
    return tuple(  # type: ignore[return-value]
        {one.numpy().tobytes() for batch in split.batches(9) for one in batch.images}
        for split in (data.train, data.validation, test_split(spec))
    )


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_val_is_the_test_part_where_there_is_no_test_and_a_line_says_so(
    tmp_path: Path, name: str
) -> None:
    spec = folder_of(tmp_path, "train", name)
    assert len(test_split(spec)) == 8
    assert load(spec).notes == (
        f"there is no test/: {name}/ is taken for it, and measured by export alone",
    )


def test_val_beside_test_is_not_used_and_a_line_says_so(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "val", "test")
    _, _, test = rows(spec)
    assert np.asarray(image(2000)).transpose(2, 0, 1).tobytes() in test
    assert load(spec).notes == ("val/ is not used: validation images are held out of train/",)


def test_training_and_testing_are_parts_and_no_classes(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "Training", "Testing")
    assert load(spec).classes == ("ant", "bee")
    assert len(test_split(spec)) == 8


def test_test_images_without_class_folders_are_not_used_and_a_line_says_so(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "val")
    fill(tmp_path / "test")
    assert "test/ has no class folders, so nothing tells" in load(spec).notes[0]
    assert len(test_split(spec)) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_class_whose_name_is_not_utf_8_is_named_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    spec = folder_of(tmp_path, "train", "test")
    fill(tmp_path / "train" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(
        ValueError, match=r"class folder b'caf\\xe9' in .*train is not UTF-8: rename"
    ):
        load(spec)


def test_valid_and_invalid_are_classes(tmp_path: Path) -> None:
    for name in ("valid", "invalid"):
        fill(tmp_path / name)
    assert load(DataSpec(source=f"folder:{tmp_path}")).classes == ("invalid", "valid")


@pytest.mark.parametrize("form", ["alone", "train", "parquet"])
def test_without_test_images_a_share_of_each_class_is_left_whatever_the_seed(
    tmp_path: Path, form: str
) -> None:
    if form == "parquet":
        source = parquet_of(tmp_path, "train", [0, 1, 1, 1, 1] * 8).source
    else:
        source = folder_of(tmp_path, "train" if form == "train" else "", count=20).source
    specs = [DataSpec(source=source, test=0.25, seed=seed) for seed in (0, 1)]
    parts = [rows(spec) for spec in specs]
    for train, validation, test in parts:
        assert len(train | validation | test) == len(train) + len(validation) + len(test) == 40
        assert len(test) == 10
    assert parts[0][2] == parts[1][2]
    assert parts[0][1] != parts[1][1]
    labels = test_split(specs[0]).labels.bincount().tolist()
    assert labels == ([2, 8] if form == "parquet" else [5, 5])
    (note,) = load(specs[0]).notes
    assert note.startswith("there are no test images: 10 of the 40 images")


def test_a_source_with_test_images_holds_out_no_others(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "test")
    with_share = DataSpec(source=spec.source, test=0.5)
    assert rows(spec) == rows(with_share)


def test_a_class_too_small_for_three_parts_is_named(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "", count=2)
    with pytest.raises(ValueError, match=r"class 'ant' has 2 images, but needs one each for"):
        load(DataSpec(source=spec.source, test=0.2))


def test_parquet_takes_validation_files_where_there_are_no_test_files(tmp_path: Path) -> None:
    parquet_of(tmp_path, "train", [0, 1] * 4)
    spec = parquet_of(tmp_path, "validation", [0, 1])
    assert len(test_split(spec)) == 2
    assert load(spec).notes == (
        "there is no test*.parquet: validation.parquet is taken for it, and measured by export alone",
    )


def test_a_class_without_test_images_is_named(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "test")
    for file in (tmp_path / "test" / "bee").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"class 'bee' has no test images \(1 such\): add some"):
        test_images(spec)


def test_parquet_may_lack_test_images_of_a_class_and_says_so(tmp_path: Path) -> None:
    parquet_of(tmp_path, "train", [0, 1] * 4)
    spec = parquet_of(tmp_path, "test", [0, 0])
    assert test_images(spec).notes == (
        "class '1' has no test images (1 such): export measures without them",
    )


LEFT_BEHIND = ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", ".git", "Thumbs.db")


def test_what_systems_leave_behind_is_neither_class_nor_image(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "test")
    for where in (tmp_path, tmp_path / "train", tmp_path / "test", tmp_path / "train" / "ant"):
        for name in LEFT_BEHIND:
            fill(where / name, 1, 5000)
        for name in (".DS_Store", "._000.png", "desktop.ini"):
            (where / name).write_bytes(b"no image")
    data = load(spec)
    assert (data.classes, data.counts, data.notes) == (("ant", "bee"), (4, 4), ())
    assert len(test_split(spec)) == 8


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read_where_pillow_can(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        fill(tmp_path / "train" / name, suffix="avif")
    assert load(DataSpec(source=f"folder:{tmp_path}")).counts == (4, 4)


@pytest.fixture
def no_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    known = formats.readable() - {".avif"}
    monkeypatch.setattr(formats, "readable", lambda: known)


def test_a_format_that_cannot_be_read_is_named_with_its_number_of_files(
    tmp_path: Path, no_avif: None
) -> None:
    spec = folder_of(tmp_path, "train")
    for i in range(3):
        (tmp_path / "train" / "bee" / f"{i}.avif").write_bytes(b"x")
    (tmp_path / "train" / "bee" / "1.HEIC").write_bytes(b"x")
    (note,) = load(spec).notes
    assert "3 files .avif, 1 file .heic: Pillow here cannot read them" in note
    assert "pip install pillow-heif" in note
    for file in (tmp_path / "train" / "bee").glob("*.png"):
        file.unlink()
    with pytest.raises(
        ValueError, match=r"no images in class folder .*bee \(3 files .avif, 1 file"
    ):
        load(spec)


def test_what_lies_in_a_class_folder_instead_of_images_is_named(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train")
    for file in (tmp_path / "train" / "bee").iterdir():
        file.rename(file.with_suffix(".npy"))
    with pytest.raises(ValueError, match=r"no images in class folder .*bee \(4 files .npy\)"):
        load(spec)


@pytest.mark.parametrize("form", ["folder", "parquet"])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_broken_images_are_left_out_where_a_study_says_so(
    tmp_path: Path, form: str, limit: int
) -> None:
    if form == "folder":
        source = folder_of(tmp_path, "train", "test", count=8).source
        for part in ("train", "test"):
            (tmp_path / part / "ant" / "003.png").write_bytes(b"broken")
        names = [str(tmp_path / part / "ant" / "003.png") for part in ("train", "test")]
    else:
        for part in ("train", "test"):
            source = parquet_of(tmp_path, part, [0, 1] * 8).source
            table = pq.read_table(tmp_path / f"{part}.parquet").to_pydict()
            table["image"][6] = b"broken"
            pq.write_table(pa.table(table), tmp_path / f"{part}.parquet")
        names = [f"{tmp_path / part}.parquet: row 6" for part in ("train", "test")]
    strict = DataSpec(source=source, root=str(tmp_path))
    with pytest.raises(BrokenImageError, match="not an image that can be read"):
        check_decodes(opened(strict, "test"))
    spec = DataSpec(source=source, root=str(tmp_path), skip_broken=True, memory_limit=limit)
    for _ in range(2):  # found, and taken from what was found
        data = load(spec)
        assert data.counts == (7, 8)
        assert data.left_out == (names[0],)
        assert data.notes == (f"1 broken image is left out: {names[0]}",)
        assert opened(spec, "test").left_out == (names[1],)
        assert len(test_split(spec)) == 15
        assert sum(len(batch.ids) for batch in data.train.batches(4)) == 13


def test_where_nothing_is_broken_leaving_out_changes_nothing(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train", "test")
    tolerant = DataSpec(source=spec.source, root=str(tmp_path), skip_broken=True)
    assert rows(spec) == rows(tolerant)
    one, other = (fingerprint(s, load(s)) for s in (spec, tolerant))
    assert difference(one, other) == ""


def logo(mode: str, drawn: bool = True) -> Image.Image:
    """Black everywhere; what is drawn, a square, is in the transparency alone."""
    alpha = np.zeros((8, 8), np.uint8)
    if drawn:
        alpha[2:6, 2:6] = 255
    picture = Image.new("RGBA" if mode == "P" else mode, (8, 8), 0)
    picture.putalpha(Image.fromarray(alpha))
    return picture.quantize() if mode == "P" else picture


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_picture_in_the_alpha_channel_is_shown_on_white(tmp_path: Path, mode: str) -> None:
    for name in ("ant", "bee"):
        fill(tmp_path / "train" / name)
        logo(mode).resize((6, 6), Image.Resampling.NEAREST).save(tmp_path / "train" / name / "000.png")  # fmt: skip
    data = load(DataSpec(source=f"folder:{tmp_path}"))
    seen = [
        one
        for split in (data.train, data.validation)
        for batch in split.batches(9)
        for one, id_ in zip(batch.images, batch.ids, strict=True)
        if int(id_) % 4 == 0
    ]
    assert len(seen) == 2
    for one in seen:
        assert one[:, 3, 3].tolist() == [0, 0, 0]
        assert one[:, 0, 0].tolist() == [255, 255, 255]


def deep_folder(root: Path, highest: int) -> DataSpec:
    for part, scale in (("train", 1.0), ("test", 0.5)):
        for c, name in enumerate(("ant", "bee")):
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                ramp = np.linspace(0, highest * scale * (1 - 0.1 * c), 36).reshape(6, 6)
                Image.fromarray(ramp.astype(np.uint16)).save(root / part / name / f"{i}.png")
    return DataSpec(source=f"folder:{root}")


@pytest.mark.parametrize(("highest", "bits"), [(200, 8), (1023, 10), (4000, 12), (65535, 16)])
def test_deep_gray_images_use_the_sets_own_range_in_every_part(
    tmp_path: Path, highest: int, bits: int
) -> None:
    spec = deep_folder(tmp_path, highest)
    data = load(spec)
    assert (data.channels, data.bits) == (1, bits)
    brightest = max(int(batch.images.max()) for batch in data.train.batches(9))
    assert brightest == highest >> (bits - 8)
    test = torch.cat([batch.images for batch in test_split(spec).batches(9)])
    assert int(test.max()) == (highest // 2) >> (bits - 8), "the factor of train"


@pytest.mark.parametrize(
    ("resize", "left", "middle"), [("crop", 0, 0), ("pad", 0, 0), ("squash", 200, 0)]
)
def test_wide_images_are_cut_padded_or_squashed(
    tmp_path: Path, resize: str, left: int, middle: int
) -> None:
    wide = np.zeros((8, 32), np.uint8)
    wide[:, :8] = wide[:, -8:] = 200
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(wide).save(tmp_path / part / name / f"{i}.png")
    spec = DataSpec(source=f"folder:{tmp_path}", image_size=8, resize=resize)
    data = load(spec)
    for split in (data.train, data.validation, test_split(spec)):
        one = next(split.batches(9)).images[0, 0]
        assert one.shape == (8, 8)
        assert one[4, 3].item() == middle
        assert one[0, 0].item() == left
        assert (one[4, 0].item() >= 190) == (resize != "crop"), "the ends are cut off"
    assert data.notes[0].startswith("images from 32 x 8 to 32 x 8 pixels become 8 x 8; 6 have")
    assert resize == data.resize


@pytest.mark.parametrize("size", [(64, 48), (40, 60), (32, 32)])
def test_the_centre_is_cut_out_as_published_networks_are_tested(size: tuple[int, int]) -> None:
    """torchvision's way, which timm goes: the shorter side to size / crop_pct, then the centre of it."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    draws = np.random.default_rng(0)
    small = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    photo = small.resize(size, Image.Resampling.BICUBIC)
    theirs = F.center_crop(F.resize(photo, [32], InterpolationMode.BICUBIC), [28])
    geometry = Geometry(3, 28, 28, crop_pct=0.875, interpolation="bicubic")
    ours = decoded(geometry, "x", np.asarray(photo))
    away = np.abs(ours.transpose(1, 2, 0).astype(int) - np.asarray(theirs))
    assert away.mean() < 3  # of 255: there the longer side is rounded to whole pixels in between
    whole = decoded(geometry._replace(crop_pct=1.0), "x", np.asarray(photo))
    assert np.abs(whole.transpose(1, 2, 0).astype(int) - np.asarray(theirs)).mean() > 8


@pytest.mark.parametrize(("resize", "seen"), [("crop", False), ("pad", True), ("squash", True)])
def test_every_way_to_resize_has_a_frame_that_is_cut_to_its_centre(resize: Any, seen: bool) -> None:
    wide = np.zeros((40, 80), np.uint8)
    wide[:, 8:16] = 200  # within the middle 80 % of the width, outside its middle square
    geometry = Geometry(1, 16, 16, resize, crop_pct=0.8)
    found = decoded(geometry, "x", wide)[0]
    assert found.shape == (16, 16)
    assert (found[8, :2].max() > 150) == seen
    assert found[8, 4:].max() == 0
    whole = decoded(geometry._replace(crop_pct=1.0), "x", wide)[0]
    assert whole[8, :2].max() < 100, "the edge is black"
    assert (whole[8, 2].max() > 100) == seen


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_training_has_all_of_the_images_whose_centre_is_tested(tmp_path: Path, resize: Any) -> None:
    ramp = np.add.outer(np.arange(0, 160, 4), np.arange(0, 80, 2)).astype(np.uint8)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(ramp).save(tmp_path / part / name / f"{i}.png")
    spec = DataSpec(source=f"folder:{tmp_path}", image_size=28, crop_pct=0.7, resize=resize)
    data = load(spec)
    streamed = load(replace(spec, memory_limit=0))
    trained, tested = (next(s.batches(9)).images[0, 0] for s in (data.train, data.validation))
    assert (trained.shape, tested.shape, data.size) == ((40, 40), (28, 28), (28, 28))
    assert (trained[6:-6, 6:-6].int() - tested.int()).abs().max() <= 2
    assert torch.equal(next(streamed.train.batches(9)).images[0, 0], trained)
    assert data.mean[0] == pytest.approx(float(tested.float().mean() / 255), abs=0.005)


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^crop_pct: 0 is not above 0 and at most 1"):
        DataSpec(source="digits", crop_pct=0)


def test_an_unknown_way_to_resize_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^resize: stretch is not one of crop, pad, squash"):
        DataSpec(source="digits", resize="stretch")


def change_class(root: Path) -> None:
    fill(root / "train" / "cat")


def change_count(root: Path) -> None:
    image(77).save(root / "train" / "bee" / "new.png")


def change_size(root: Path) -> None:
    for file in (root / "train").rglob("*.png"):
        image(1, (9, 9)).save(file)


def change_pixels(root: Path) -> None:
    image(99).save(root / "train" / "bee" / "001.png")


def change_name(root: Path) -> None:
    (root / "train" / "bee" / "001.png").rename(root / "train" / "bee" / "0010.png")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_class, r"class 'cat' is new \(2 classes then, 3 now\)"),
        (change_count, "class 'bee' had 4 images and has 5 now"),
        (change_size, "images are RGB, 9 x 9 now, they were RGB, 6 x 6"),
        (change_pixels, "some images are others than then"),
        (change_name, "some images are others than then"),
    ],
)
def test_a_changed_set_is_told_from_what_it_was(tmp_path: Path, change: object, told: str) -> None:
    spec = folder_of(tmp_path / "set", "train", "test")
    before = fingerprint(spec, load(spec))
    change(tmp_path / "set")
    assert re.fullmatch(told, difference(before, fingerprint(spec, load(spec))))


def test_a_moved_set_and_changed_test_images_are_the_same_set(tmp_path: Path) -> None:
    spec = folder_of(tmp_path / "set", "train", "test")
    before = fingerprint(spec, load(spec))
    image(77).save(tmp_path / "set" / "test" / "bee" / "new.png")
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = DataSpec(source=f"folder:{tmp_path / 'moved'}")
    assert difference(before, fingerprint(moved, load(moved))) == ""


def test_balanced_weights_let_classes_count_alike_with_mean_1_over_the_images(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "train" / "ant", 11)
    fill(tmp_path / "train" / "bee", 3)
    spec = DataSpec(source=f"folder:{tmp_path}", class_weights="balanced")
    data = load(spec)
    counts = data.train.labels.bincount().tolist()
    assert counts == [10, 2]
    assert data.class_weights == pytest.approx((12 / (2 * 10), 12 / (2 * 2)))
    assert load(DataSpec(source=spec.source)).class_weights is None


def deep_colour(file: Path, highest: int) -> None:
    """A PNG with 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = np.linspace(0, highest, 6 * 6 * 3).reshape(6, 18).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", data), (b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_colour_with_16_bits_whose_upper_half_is_empty_is_refused_and_not_made_black(
    tmp_path: Path,
) -> None:
    spec = folder_of(tmp_path, "train")
    for i, file in enumerate(sorted((tmp_path / "train").rglob("*.png"))):
        deep_colour(file, 60_000 if i else 200)
    assert load(spec).notes == ()
    for file in (tmp_path / "train").rglob("*.png"):
        deep_colour(file, 200)
    with pytest.raises(
        ValueError, match=r"ant/000\.png: colour with 16 bits a channel and no value"
    ):
        load(spec)


def test_images_of_one_flat_colour_are_told(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "train")
    for file in (tmp_path / "train").rglob("*.png"):
        Image.new("RGB", (6, 6), "white").save(file)
    assert load(spec).notes == (
        "all training images are of one flat colour: no network can tell them apart",
    )
