"""One process at a time creates a database."""

import threading
import time

import pytest

from storage import creation_lock as creation
from storage.creation_lock import creating
from storage.errors import StorageError


def test_two_never_create_at_the_same_time(url):
    inside, most = [], []

    def create() -> None:
        with creating(url):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_the_right_is_given_back_after_an_error(url):
    with pytest.raises(RuntimeError, match="halfway"), creating(url):
        raise RuntimeError("halfway")
    with creating(url):
        pass


def test_who_waits_in_vain_is_told_for_which_file(tmp_path, monkeypatch):
    monkeypatch.setattr(creation, "PATIENCE", 0.1)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    again = creating(url)
    with (
        creating(url),
        pytest.raises(StorageError, match=r"study\.db: another process has been creating it"),
    ):
        again.__enter__()


def test_the_folder_of_the_file_exists_afterwards(tmp_path):
    with creating(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"):
        assert (tmp_path / "new").is_dir()


def test_other_databases_need_no_right():
    with creating("http://tracking:5000"):
        pass
