"""How busy one driver keeps many workers, by simulation."""

from __future__ import annotations

import pytest

from benchmarks.load_driver import utilisation


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
