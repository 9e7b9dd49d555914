"""Large sets: what is decoded once and kept, what is streamed, and how much memory images may take."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trainers.data.kept as kept
import trainers.data.pixels as pixels
import trainers.data.streamed as streamed
from trainers.data.decode import Geometry, decoded, header
from trainers.data.images import ArrayImages, FileImages
from trainers.data.kept import kept_headers, kept_pixels
from trainers.data.memory import free_memory
from trainers.data.pixels import HeldPixels
from trainers.data.splits import DataSpec, Split, held_parts, load
from trainers.data.streamed import StreamedPixels

GEOMETRY = Geometry(3, 6, 6)
CPU = torch.device("cpu")


def photos(root: Path, count: int) -> FileImages:
    files = []
    for number in range(count):
        draw = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        files.append(str(root / f"{number:04}.png"))
        Image.fromarray(draw).save(files[-1])
    return FileImages(files, np.zeros(count, np.int64), ("one",))


@pytest.fixture
def keeps_all(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Even the smallest set is kept; the names of the images that are decoded."""
    names: list[str] = []

    def decoding(geometry: Geometry, name: str, stored: object) -> np.ndarray:
        names.append(name)
        return decoded(geometry, name, stored)

    monkeypatch.setattr(kept, "FEWEST_BYTES", 0)
    monkeypatch.setattr(kept, "FEWEST_HEADERS", 0)
    monkeypatch.setattr(kept, "decoded", decoding)
    return names


def test_images_are_decoded_once_for_each_size_and_changed_ones_again(
    tmp_path: Path, keeps_all: list[str]
) -> None:
    images, rows = photos(tmp_path, 5), np.array([0, 2, 4])
    first, again = (kept_pixels(images, rows, GEOMETRY, tmp_path / "cache") for _ in range(2))
    expected = [decoded(GEOMETRY, "", Path(images.files[row])) for row in rows]
    assert np.array_equal(first, expected)
    assert np.array_equal(again, expected)
    assert len(keeps_all) == 3
    kept_pixels(images, rows, Geometry(3, 4, 4), tmp_path / "cache")
    assert len(keeps_all) == 6
    Image.new("RGB", (12, 8), "red").save(images.files[2])
    os.utime(images.files[2], ns=(1, 1))
    assert kept_pixels(images, rows, GEOMETRY, tmp_path / "cache")[1, 0].min() > 250
    assert len(keeps_all) == 9


def test_of_several_who_want_the_same_one_decodes_and_the_others_wait(
    tmp_path: Path, keeps_all: list[str]
) -> None:
    images, rows = photos(tmp_path, 6), np.arange(6)
    with ThreadPoolExecutor(3) as threads:
        wanted = [threads.submit(kept_pixels, images, rows, GEOMETRY, tmp_path) for _ in range(3)]
    first, *others = (one.result() for one in wanted)
    assert all(np.array_equal(first, one) for one in others)
    assert len(keeps_all) == 6


def test_what_is_changed_in_kept_pixels_changes_nothing_in_the_file(
    tmp_path: Path, keeps_all: list[str]
) -> None:
    images, rows = photos(tmp_path, 2), np.arange(2)
    first = kept_pixels(images, rows, GEOMETRY, tmp_path)
    before = first.copy()
    first[:] = 0
    assert np.array_equal(kept_pixels(images, rows, GEOMETRY, tmp_path), before)
    assert len(keeps_all) == 2


def test_pixels_in_memory_are_known_by_all_of_them(tmp_path: Path, keeps_all: list[str]) -> None:
    array = np.zeros((600, 8, 8), np.uint8)
    changed = array.copy()
    changed[301, 3, 3] = 255
    rows, small = np.arange(600), Geometry(1, 4, 4)
    one, other = (
        kept_pixels(ArrayImages(each, np.zeros(600), ("one",)), rows, small, tmp_path)
        for each in (array, changed)
    )
    assert one.max() == 0
    assert other[301].max() > 0


def test_the_files_used_longest_ago_make_room_and_what_has_none_is_decoded_into_memory(
    tmp_path: Path, keeps_all: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, rows, folder = photos(tmp_path, 4), np.arange(4), tmp_path / "decoded"
    size = 4 * GEOMETRY.image_bytes + 128
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * size)
    names: dict[int, str] = {}
    for age, side in enumerate((6, 5, 4)):  # the first is used again before the third is kept
        kept_pixels(images, rows, Geometry(3, side, side), tmp_path)
        new = {file.name for file in folder.glob("*.npy")} - set(names.values())
        names[side] = new.pop()
        for file in folder.glob("*.npy"):
            os.utime(file, (age, age) if file.name != names[6] else (age + 9, age + 9))
    assert {file.name for file in folder.glob("*.npy")} == {names[6], names[4]}
    monkeypatch.setattr(kept, "MOST_BYTES", 10)
    found = kept_pixels(images, rows, Geometry(3, 8, 8), tmp_path)
    assert np.array_equal(found[3], decoded(Geometry(3, 8, 8), "", Path(images.files[3])))
    assert not list(folder.glob("*.tmp"))


def test_a_folder_that_cannot_be_written_keeps_nobody_from_training(
    tmp_path: Path, keeps_all: list[str]
) -> None:
    (tmp_path / "decoded").write_text("in the way")
    images = photos(tmp_path, 2)
    assert kept_pixels(images, np.arange(2), GEOMETRY, tmp_path).shape == (2, 3, 6, 6)


def test_headers_are_read_once(
    tmp_path: Path, keeps_all: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photos(tmp_path, 3)
    Image.new("I;16", (9, 7)).save(images.files[1])
    read = [header("", Path(file)) for file in images.files]
    assert kept_headers(images, tmp_path) == read
    monkeypatch.setattr(kept, "header", None)
    assert kept_headers(images, tmp_path) == read


@pytest.mark.parametrize(
    ("limit", "train", "validation", "held"),
    [
        (10, 6, 4, (True, True)),
        (10, 7, 4, (False, True)),
        (10, 7, 11, (True, False)),
        (10, 11, 11, (False, False)),
    ],
)
def test_each_part_is_held_where_it_fits_validation_first(
    limit: int, train: int, validation: int, held: tuple[bool, bool]
) -> None:
    assert held_parts(limit, train, validation) == held


def test_a_set_beyond_the_limit_streams_training_images_and_holds_validation(
    tmp_path: Path,
) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        photos(tmp_path / "train" / name, 10)
    spec = DataSpec(source=f"folder:{tmp_path}", test=0.2, image_size=6, memory_limit=400)
    data = load(spec)
    assert isinstance(data.train.pixels, StreamedPixels)
    assert isinstance(data.validation.pixels, HeldPixels)


def test_free_memory_counts_the_limit_of_the_container(tmp_path: Path) -> None:
    machine = free_memory(tmp_path / "nothing")
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\ninactive_file 100000\n")
    assert free_memory(tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == pytest.approx(machine, rel=0.5)


def test_a_device_without_room_gets_the_images_of_each_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
    meta = torch.device("meta")
    monkeypatch.setattr(pixels, "room_on", lambda device: 10)
    held = HeldPixels(array)
    orders = [torch.tensor([2, 0]), torch.tensor([1])]
    assert [len(images) for _, images in held.batches(orders, meta)] == [2, 1]
    assert meta not in held._on_device
    monkeypatch.setattr(pixels, "room_on", lambda device: array.nbytes)
    assert [len(images) for _, images in held.batches(orders, meta)] == [2, 1]
    assert held._on_device[meta].shape == array.shape
    held.release()
    assert [str(device) for device in held._on_device] == ["cpu"]


def test_some_images_of_a_split_are_those_images() -> None:
    split = load(DataSpec(source="digits", train_limit=50)).train
    few = split.some(7)
    assert (few.ids[0], few.ids[-1], len(few)) == (split.ids[0], split.ids[-1], 7)
    stored = {
        int(i): image for b in split.batches(9) for image, i in zip(b.images, b.ids, strict=True)
    }
    for batch in few.batches(3):
        for image, id_ in zip(batch.images, batch.ids, strict=True):
            assert torch.equal(image, stored[int(id_)])
    assert len(split.some(99)) == 50


@pytest.mark.slow
def test_the_processes_that_stream_stay_for_later_epochs_also_after_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "FEWEST_FOR_WORKERS", 1)
    images, rows = photos(tmp_path, 12), np.arange(12)
    pixels_of = StreamedPixels(images, rows, GEOMETRY)
    split = Split(torch.zeros(12, dtype=torch.int64), torch.arange(12), pixels_of)
    held = HeldPixels(kept_pixels(images, rows, GEOMETRY, tmp_path))
    expected = Split(split.labels, split.ids, held)

    def pids() -> list[int]:
        return [worker.pid for worker in pixels_of._loader._iterator._workers]

    def epoch(of: Split, seed: int) -> torch.Tensor:
        return torch.cat([batch.images for batch in of.batches(5, shuffle=seed)])

    assert torch.equal(epoch(split, 1), epoch(expected, 1))
    first = pids()
    left: Any = split.batches(2, shuffle=2)
    next(left)
    assert torch.equal(epoch(split, 3), epoch(expected, 3))  # beside one that is under way
    left.close()
    assert torch.equal(epoch(split, 4), epoch(expected, 4))
    assert pids() == first
    pixels_of.release()
    assert torch.equal(epoch(split, 5), epoch(expected, 5))
    assert not set(pids()) & set(first)
