"""How busy one driver keeps many workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, event

from benchmarks import load_driver
from benchmarks.load import STUDY
from benchmarks.load_driver import busy_share, driven, kept_busy, utilisation
from benchmarks.made_up import fill, made_up_study
from search.cli import main
from storage.settings import Settings
from storage.store import Store

A_TRIAL = 40.0  # KB that the driver may keep of it: its settings and what the sampler learns, not its points


@pytest.mark.parametrize(
    ("workers", "trial", "driver", "busy"),
    [
        (1, 1.0, 1.0, 1 / 2),  # it waits for the driver as long as it trains
        (64, 1.0, 0.1, 1 / 6.4),  # the driver has ten trials a second for 64 workers
        (1000, 1.0, 0.015, 1 / 15),
        (64, 60.0, 0.1, 1.0),
    ],
)
def test_workers_are_as_busy_as_one_driver_can_keep_them(
    workers: int, trial: float, driver: float, busy: float
) -> None:
    assert utilisation(workers, trial, driver) == pytest.approx(busy, rel=0.05)


def test_the_share_that_workers_train_counts_from_the_third_round_to_the_last_start() -> None:
    # one worker: idle before each training as long as it trains, but not in the first two rounds
    trained = [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0)]
    assert busy_share(trained, 1) == pytest.approx(0.5)
    assert busy_share(sorted(trained * 2), 2) == pytest.approx(0.5)


@pytest.mark.slow
def test_a_driver_keeps_a_few_workers_busy(tmp_path: Path) -> None:
    assert 0.5 < kept_busy(tmp_path, 2, 0.5) <= 1.0


@pytest.mark.slow
def test_a_drivers_memory_hardly_grows_with_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_driver, "EPOCHS", 1)
    resident = driven(tmp_path, 300, 4)["resident_mb"]
    assert list(resident) == [100, 200, 300]
    assert 1024 * (resident[300] - resident[100]) / 200 < A_TRIAL


@contextmanager
def statements() -> Iterator[list[str]]:
    """What all databases are asked in it."""
    asked: list[str] = []

    def add(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", add)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", add)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "front"])
def test_a_command_asks_hardly_more_of_a_study_with_more_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    counts = {}
    for trials in (20, 200):
        folder = tmp_path / str(trials)
        settings = Settings.model_validate({"storage": {"folder": folder / "dynafront-data"}})
        settings.folder.mkdir(parents=True)
        store = Store.open(settings.database_url)
        fill(store, made_up_study(store, STUDY, trials, epochs=5), trials, stored_epochs=1)
        store.close()
        monkeypatch.chdir(folder)
        with statements() as asked:
            shown = CliRunner().invoke(main, [command, STUDY])
        assert shown.exit_code == 0, shown.output
        counts[trials] = asked
    assert 0 < len(counts[20]) < 50
    more = len(counts[200]) - len(counts[20])
    assert more <= 180 / 30, "rows are read many at a time"
    whole = [one for one in counts[200] if "dynafront_trial.result" in one]
    assert not whole, "pictures make results large"
