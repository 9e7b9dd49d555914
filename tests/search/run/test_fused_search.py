"""Searches whose trials train as one: all tables say what they say of trials that train alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crashes import known, new_folder
from benchmarks.kills import workers_of
from benchmarks.launcher import LOG, Launcher, Search

pytestmark = pytest.mark.slow
STUDY = """\
study: killed
data: digits
families: [gated_resnet]
sampler: random
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32, granularity: layer, gate: dependent}
budget: {trials: 4, epochs: 6}
warm_start: false
train_limit: 256
cascades: false
run: {precision: float32, threads: 1, fused: 4}
"""
# says how many jobs a process is given at once
COUNTED = """
from search.run.held_jobs import HeldJobs
ready = HeldJobs.ready
def counted(self, room):
    if found := ready(self, room):
        print(f"begin: {len(found)}", flush=True)
    return found
HeldJobs.ready = counted
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


def groups(folder: Path) -> list[str]:
    lines = (folder / LOG).read_text().splitlines()
    return [line.removeprefix("begin: ") for line in lines if line.startswith("begin: ")]


def killed_in_a_group(search: Search) -> None:
    """Kill the worker once each of the four that it trains has a checkpoint."""
    until = time.monotonic() + 600
    while len(list(search.folder.rglob("*.safetensors"))) < 4:
        assert time.monotonic() < until
        assert search.ended(0.05) is None, (search.folder / LOG).read_text()
    assert groups(search.folder) == ["4"]
    (worker,) = workers_of(search)
    worker.kill()


@pytest.mark.parametrize("killed", [False, True])
def test_a_search_whose_trials_train_as_one_ends_with_all_tables_right(
    launcher: Launcher, tmp_path: Path, killed: bool
) -> None:
    folder = new_folder(tmp_path, "fused", STUDY)
    search = launcher.search(folder, "-v", "--workers", "1", before=COUNTED)
    if killed:
        killed_in_a_group(search)
    assert search.ended(900) == 0, (folder / LOG).read_text()
    assert groups(folder) == ["4"] + ["1"] * 4 * killed, "alone after the crash"
    check_tables(known(folder))


def check_tables(found: dict[str, Any]) -> None:
    """Four trials, each with its own epochs and points, and no other end than a good one."""
    trials = {one[1]: one for one in found["trials"] if one[0] == "search"}
    assert sorted(trials) == [0, 1, 2, 3]
    stopped = {number: one[5] for number, one in trials.items()}
    for number, one in trials.items():
        assert one[2] == ("stopped" if stopped[number] else "complete")
        last = stopped[number] or 6
        assert found["epochs"]["search", number] == list(range(1, last + 1))
        assert found["curves"][f"trial-{number:04d}"] == list(range(1, last + 1))
        assert any(point[1] == number for point in found["points"])
    assert found["failures"] == []
    ends = {number: state for number, state, _, _ in found["optuna"]}
    assert sorted(ends) == [0, 1, 2, 3]
    assert set(ends.values()) <= {"COMPLETE", "PRUNED"}
    assert all(status == "FINISHED" for _, status in found["runs"])
    assert len({repr(point[2:]) for point in found["points"]}) > 4, "each has points of its own"
