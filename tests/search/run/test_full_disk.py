"""A search on a disk that is really full, or read-only: it says so, and goes on where there is room."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crashes import STUDY, differences, known, new_folder
from benchmarks.launcher import LOG, Launcher
from tests.small_disk import SmallDisk, may_mount, within

pytestmark = pytest.mark.slow
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 8, warm_epochs: 4"
).replace("train_limit: 256", "train_limit: 96")
SIZE = "24m"
DATA, MLFLOW = "dynafront-data", "dynafront-data/mlflow.db"


@dataclass(frozen=True)
class Room:
    """Where searches have a small disk, and what the tables say of one that had a large one."""

    parent: Path
    launcher: Launcher
    disk: SmallDisk
    known: dict[str, Any]

    def study(self, name: str, moved: str) -> Path:
        """The folder of a study of which this file or folder lies on the small disk."""
        folder = new_folder(self.parent, name, SMALL)
        there = self.disk.path / name
        there.mkdir()
        shutil.move(folder / moved, there)
        (folder / moved).symlink_to(self.disk.folder / name / Path(moved).name)
        return folder

    def check(self, folder: Path, moved: str) -> None:
        """Whether the tables are as those of a search with a large disk; frees the small one."""
        (folder / moved).unlink()
        shutil.move(self.disk.path / folder.name / Path(moved).name, folder / moved)
        shutil.rmtree(self.disk.path / folder.name)
        assert differences(folder, self.known) == []

    def search(self, folder: Path) -> tuple[int | None, str]:
        """(exit code, what it said)"""
        log = folder / LOG
        before = len(log.read_text()) if log.exists() else 0
        code = self.launcher.search(folder, "--workers", "0").ended(600)
        return code, log.read_text()[before:]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    parent = tmp_path_factory.mktemp("full")
    mounted = parent / "disk"
    mounted.mkdir()
    if not may_mount(mounted):
        pytest.skip("the kernel does not let us mount a file system")
    with Launcher(*within(mounted, SIZE)) as launcher:
        whole = new_folder(parent, "whole", SMALL)
        assert launcher.search(whole, "--workers", "0").ended(600) == 0, (whole / LOG).read_text()
        yield Room(parent, launcher, SmallDisk(launcher.pid, mounted), known(whole))


def test_a_search_on_a_full_disk_says_so_and_ends_with_room_as_one_that_had_it_always(
    room: Room,
) -> None:
    folder = room.study("full", DATA)
    for free in (0, 2**16, 2**18):
        room.disk.leave(free)
        code, said = room.search(folder)
        assert code == 1, said
        (line,) = re.findall(r"^Error: .*$", said, re.MULTILINE)
        assert "free some space and run the same command again" in line
        assert "Traceback" not in said
    room.disk.empty()
    code, said = room.search(folder)
    assert code == 0, said
    room.check(folder, DATA)


def test_a_search_in_a_read_only_folder_says_so_and_goes_on_once_it_may_be_written(
    room: Room,
) -> None:
    folder = room.study("sealed", DATA)
    room.disk.let("ro")
    try:
        code, said = room.search(folder)
    finally:
        room.disk.let("rw")
    assert code == 1, said
    assert len(re.findall(r"^Error: .*(?:write|written|Read-only).*$", said, re.MULTILINE)) == 1
    assert "Traceback" not in said
    code, said = room.search(folder)
    assert code == 0, said
    room.check(folder, DATA)


def test_a_search_goes_on_where_mlflow_alone_has_no_room_and_mlflow_catches_up(room: Room) -> None:
    folder = room.study("mlflow", MLFLOW)
    room.disk.leave(2**14)
    code, said = room.search(folder)
    assert code == 0, said
    assert len(re.findall(r"MLflow cannot be reached \(.*full.*`dynafront sync`", said)) == 1, said
    room.disk.empty()
    code, said = room.search(folder)
    assert code == 0, said
    room.check(folder, MLFLOW)
