"""A database that another program holds is waited for, on Optuna's side too."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from optuna.study import StudyDirection

from search.run import optuna_mirror as module
from search.run.optuna_mirror import optuna_storage


def test_optuna_waits_for_another_program_as_long_as_we_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.7)
    storage = optuna_storage(f"sqlite:///{tmp_path / 'o.db'}")
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 700
    other = sqlite3.connect(tmp_path / "o.db", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.close).start()
    storage.create_new_study([StudyDirection.MINIMIZE])
