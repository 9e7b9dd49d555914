"""For every test: one thread a process when several share the cores, and no deadlines for property tests.

A deadline on a busy machine says nothing of the code; and two processes whose threads wait for each other's cores are
several times slower than two of one thread each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_address_is_left_behind() -> Iterator[None]:
    """MLflow's functions write their store into the environment, where the next test's settings would read it."""
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    yield
    assert before == {name: os.environ.get(name) for name in before}


@pytest.fixture(autouse=True)
def the_width_is_that_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print as wide as COLUMNS says, which is 80 in the workers of pytest-xdist."""
    monkeypatch.delenv("COLUMNS", raising=False)
