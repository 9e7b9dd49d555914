"""Replays of dynafront's search give what was measured, to the last digit: nobody changed how it searches unawares.

Every way of searching on the smallest table; on the others the default, and what only they have. The other replays, of
all seeds, are those that `benchmarks/search_bench/compare.py --out FOLDER` makes anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.search_bench.compare import LONG, OURS, STATIC, methods, replay, there

FOLDER = Path(__file__).parents[2] / "benchmarks" / "search_bench"
MEASURED = {
    table: json.loads((FOLDER / table / "curves.json").read_text())
    for table in ("cifar", "digits", "frozen")
}
SEED = 0


def ours(names: Any) -> list[str]:
    """Those of the methods that are dynafront's search, or its search without a part."""
    return [name for name in names if name.startswith(OURS)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "name"),
    [
        *(("cifar", name) for name in ours(MEASURED["cifar"]["replays"])),
        *(("digits", OURS), ("digits", LONG), ("frozen", OURS), ("frozen", STATIC)),
    ],
)
def test_a_replay_gives_what_was_measured(table: str, name: str) -> None:
    measured = MEASURED[table]
    found = np.round(replay(table, name, SEED, measured["trials"]), 5)
    np.testing.assert_array_equal(found, measured["replays"][name][str(SEED)])


def test_every_way_of_searching_was_measured() -> None:
    for table in ("digits", "cifar"):
        measured = ours(MEASURED[table]["replays"])
        assert set(ours(there(list(methods()), table))) == set(measured)
    assert {OURS, STATIC} <= set(MEASURED["frozen"]["replays"]) <= set(methods())
