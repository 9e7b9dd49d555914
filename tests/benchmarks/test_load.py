"""How busy one driver keeps many workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load_driver import busy_share, kept_busy, utilisation


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
