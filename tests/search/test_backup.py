"""The backup that docs/operations.md shows, of a study that is in use: restored elsewhere, all of it works."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from storage.server_users import users_environment
from storage.settings import Settings
from storage.store import Store
from tests.search.conftest import dynafront
from tests.test_server_files import shown

pytestmark = pytest.mark.slow


@pytest.fixture
def used(finished: Path, tmp_path: Path) -> Path:
    """A folder with the study and accounts, whose last changes are only in the log beside the database."""
    folder = tmp_path / "used"
    shutil.copytree(finished, folder)
    settings = Settings.model_validate({"storage": {"folder": folder / "dynafront-data"}})
    users_environment(settings, given={"MLFLOW_AUTH_ADMIN_PASSWORD": "the admin's password"})
    return folder


def backed_up(folder: Path) -> Path:
    """Run the block there; where it put the copy."""
    block = shown("SQLite files are copied whole")
    done = subprocess.run(["sh", "-c", block], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "backup"


def test_a_backup_that_is_restored_elsewhere_is_the_study(
    used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(f"sqlite:///{used / 'dynafront-data' / 'dynafront.db'}")
    store.add_seconds("tiny", 1000.0)
    assert (used / "dynafront-data" / "dynafront.db-wal").stat().st_size, "it is in use"
    before = sorted(file.name for file in (used / "dynafront-data").iterdir())
    copy = backed_up(used)
    assert before == sorted(file.name for file in (used / "dynafront-data").iterdir())
    monkeypatch.chdir(used)
    front = dynafront("front", "tiny", "--format", "csv").output
    assert front.count("\n") > 1
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(copy, elsewhere / "dynafront-data")
    shutil.rmtree(used)
    monkeypatch.chdir(elsewhere)
    restored = Store.open("sqlite:///dynafront-data/dynafront.db").study("tiny")
    assert restored.seconds_spent > 1000.0, "what stood in the log alone is in the copy"
    assert "finished" in dynafront("status", "tiny").output
    assert dynafront("front", "tiny", "--format", "csv").output == front
    assert dynafront("export", "tiny").exit_code == 0
    assert (elsewhere / "exported" / "model.onnx").exists()
    assert dynafront("sync", "tiny").exit_code == 0


def test_the_copy_of_the_accounts_is_as_private_as_they_are(used: Path) -> None:
    copy = backed_up(used)
    for folder in (used / "dynafront-data", copy):
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in folder.glob("users.*")}
        assert modes == dict.fromkeys(("users.db", "users.ini", "users.secret"), "0o600")
    assert {oct(file.stat().st_mode & 0o777) for file in copy.glob("*.db")} == {"0o600"}


def test_a_second_backup_into_the_same_folder_replaces_the_first(used: Path) -> None:
    backed_up(used)
    Store.open(f"sqlite:///{used / 'dynafront-data' / 'dynafront.db'}").add_seconds("tiny", 7000.0)
    copy = backed_up(used)
    assert Store.open(f"sqlite:///{copy / 'dynafront.db'}").study("tiny").seconds_spent > 7000.0


def test_without_sqlite_files_no_empty_ones_are_made(tmp_path: Path) -> None:
    (tmp_path / "dynafront-data" / "checkpoints").mkdir(parents=True)
    copy = backed_up(tmp_path)
    assert [file.name for file in copy.iterdir()] == ["checkpoints"]
