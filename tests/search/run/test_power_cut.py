"""A machine that loses power: SQLite may forget what was written last, checkpoints are on the disk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.crashes import STUDY, differences, known, new_folder
from benchmarks.launcher import LOG, Launcher, Search

pytestmark = pytest.mark.slow
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 4, warm_epochs: 2"
)
DATABASE = Path("dynafront-data") / "dynafront.db"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


@pytest.fixture(scope="module")
def whole(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, searched without an interruption."""
    folder = new_folder(tmp_path_factory.mktemp("whole"), "whole", SMALL)
    assert launcher.search(folder, "--workers", "0").ended(600) == 0, (folder / LOG).read_text()
    return folder


@pytest.mark.parametrize("epochs", [2, 6], ids=["in the first trial", "in the second"])
def test_a_study_whose_database_forgot_all_of_it_ends_as_one_that_was_not_interrupted(
    launcher: Launcher, whole: Path, tmp_path: Path, epochs: int
) -> None:
    """The worst case: the log beside the database, which the disk need not have yet, is gone as a whole."""
    folder = new_folder(tmp_path, "cut", SMALL)
    search = launcher.search(folder, "--workers", "0")
    wait_for_epochs(search, epochs)
    search.kill()
    for kind in ("-wal", "-shm"):
        (folder / f"{DATABASE}{kind}").unlink(missing_ok=True)
    assert number_of_epochs(folder) < epochs, "the database has forgotten"
    assert list((folder / "dynafront-data" / "checkpoints").rglob("*.safetensors"))
    assert launcher.search(folder, "--workers", "0").ended(600) == 0, (folder / LOG).read_text()
    assert differences(folder, known(whole)) == []


def wait_for_epochs(search: Search, epochs: int) -> None:
    until = time.monotonic() + 300
    while number_of_epochs(search.folder) < epochs:
        assert search.ended(0.05) is None, (search.folder / LOG).read_text()
        assert time.monotonic() < until, (search.folder / LOG).read_text()


def number_of_epochs(folder: Path) -> int:
    """As the database has them; 0 where its tables are not there yet."""
    try:
        with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=rw", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM dynafront_epoch").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
