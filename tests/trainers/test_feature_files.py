"""Files of features: whole or not there, within their bytes, computed once by whoever comes first."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trainers.feature_files import FeatureFiles, NoRoomError, Rows, Wanted


def one(key: str, rows: int = 4) -> Wanted:
    return Wanted(key, rows, 2, "float32")


def filled(value: float, rows: int = 4) -> Rows:
    return {"a": np.full((rows, 2), value, dtype=np.float32)}


def test_what_was_computed_is_read_the_next_time(tmp_path: Path) -> None:
    files, asked = FeatureFiles(tmp_path / "f", 10_000), []

    def compute(names: list[str]) -> Iterator[Rows]:
        asked.append(names)
        yield filled(1.0, 3)
        yield filled(2.0, 1)

    for _ in range(2):
        found = files.arrays({"a": one("k")}, compute)
        assert isinstance(found["a"], np.memmap)
        assert found["a"].tolist() == [[1, 1], [1, 1], [1, 1], [2, 2]]
    assert asked == [["a"]]


def test_a_computation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "f", 10_000)

    def failing(names: list[str]) -> Iterator[Rows]:
        yield filled(1.0, 2)
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        files.arrays({"a": one("k")}, failing)
    assert files.files() == []
    assert files.arrays({"a": one("k")}, lambda _: iter([filled(3.0)]))["a"][0, 0] == 3


def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "f", 10_000)
    files.arrays({"a": one("k")}, lambda _: iter([filled(1.0)]))
    (file,) = files.files()
    os.truncate(file, file.stat().st_size - 5)
    assert files.arrays({"a": one("k")}, lambda _: iter([filled(2.0)]))["a"][0, 0] == 2


def test_what_a_killed_process_left_is_deleted_and_never_read(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "f", 10_000)
    files.folder.mkdir()
    (files.folder / "k.npy.4711").write_bytes(b"half of an array")
    assert files.arrays({"a": one("k")}, lambda _: iter([filled(1.0)]))["a"][0, 0] == 1
    assert [file.name for file in files.files()] == ["k.npy"]


def test_the_files_that_were_used_longest_ago_make_room(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "f", 2 * (4 * 2 * 4 + 128))
    for number, key in enumerate(("old", "new")):
        files.arrays({"a": one(key)}, lambda _: iter([filled(1.0)]))
        os.utime(files.folder / f"{key}.npy", (number, number))
    held = files.arrays({"a": one("old")}, lambda _: iter([]))["a"]
    os.utime(files.folder / "new.npy", (1, 1))
    files.arrays({"a": one("third")}, lambda _: iter([filled(3.0)]))
    assert {file.name for file in files.files()} == {"old.npy", "third.npy"}
    assert held[0, 0] == 1


def test_more_than_the_files_may_take_is_refused(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "f", 20)
    with pytest.raises(NoRoomError, match="more than 20"):
        files.arrays({"a": one("k")}, lambda _: iter([filled(1.0)]))


def test_a_full_disk_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    files = FeatureFiles(tmp_path / "f", 10_000)
    with pytest.raises(NoRoomError, match="No space left on device"):
        files.arrays({"a": one("k")}, lambda _: iter([filled(1.0)]))
    assert files.files() == []


def _ask(folder: Path, number: int) -> None:
    def compute(names: list[str]) -> Iterator[Rows]:
        (folder / f"computed-{number}").touch()
        yield filled(float(number))

    FeatureFiles(folder / "f", 10_000).arrays({"a": one("k")}, compute)


@pytest.mark.slow
def test_of_processes_that_want_the_same_one_computes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ask, args=(tmp_path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("computed-*"))) == 1
