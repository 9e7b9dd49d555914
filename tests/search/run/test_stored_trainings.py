"""Trainings whose checkpoints go into a store: another machine starts from them, and what is away stops nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.run.job import Job, Notice, Outcome, Rung
from search.run.missing_files import put_missing
from search.run.progress import Progress
from search.run.worker import events, trained_net
from storage.kept_files import checkpoint_store
from storage.remote_store import RemoteStore
from tests.search.run.bench import ALONE, Bench, outcome
from tests.search.run.jobs import job
from trainers.fit import EpochResult

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> str:
    place = tmp_path / "shared"
    RemoteStore(f"{place}/checkpoints").check()
    return str(place)


def on(tmp_path: Path, machine: str, store: str, number: int = 0, **values: Any) -> Job:
    """A job on a machine with a folder of its own."""
    return replace(job(tmp_path / machine, number), store=store, **values)


def test_another_machine_goes_on_from_the_last_epoch_and_exports_what_ended(
    tmp_path: Path, store: str
) -> None:
    first = on(tmp_path, "one", store, rungs=(1,))
    running = events(first)
    seen = [next(running), next(running)]
    assert isinstance(seen[1], Rung)
    shutil.rmtree(tmp_path / "one")  # nothing was asked of it since the rung
    running.close()
    found = [*events(on(tmp_path, "other", store))]
    assert [one.epoch for one in found if isinstance(one, EpochResult)] == [1, 2]
    assert found[0] == seen[0], "the epoch that it goes on from, once more"
    assert isinstance(found[-1], Outcome)
    trained_net(on(tmp_path, "third", store))


def test_a_training_starts_from_weights_that_another_machine_trained(
    tmp_path: Path, store: str
) -> None:
    baseline = on(tmp_path, "one", store, epochs=1)
    assert isinstance([*events(baseline)][-1], Outcome)
    shutil.rmtree(tmp_path / "one")
    own = tmp_path / "other" / f"{baseline.key}.safetensors"
    one = on(tmp_path, "other", store, number=1, epochs=1, init_from=str(own))
    assert isinstance([*events(one)][-1], Outcome)


def test_while_the_store_is_away_a_training_goes_on_and_says_so_once(
    tmp_path: Path, store: str
) -> None:
    Path(store).rename(tmp_path / "moved")
    one = on(tmp_path, "one", store)
    found = [*events(one)]
    assert isinstance(found[-1], Outcome)
    (said,) = (event.text for event in found if isinstance(event, Notice))
    assert said.startswith(f"{store}/checkpoints: there is no such folder")
    files, lines = checkpoint_store(tmp_path / "one", store), list[str]()
    assert put_missing(files, "s", lines.append) == 0
    assert lines[0].startswith("1 file of s are on this machine alone")
    (tmp_path / "moved").rename(store)
    assert put_missing(files, "s", lines.append) == 1
    assert put_missing(files, "s", lines.append) == 0
    trained_net(on(tmp_path, "other", store))


def test_the_driver_says_once_what_several_trainings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: said.append(str(line)))
    away, back = Notice("the store is away"), Notice("the store answers again")
    notices = {0: [away], 1: [away], 2: [back], 3: [away]}

    def script(job: Job, attempt: int) -> list[Any]:
        return [*notices[job.number], outcome(0.5, 1e6 * (job.number + 1))]

    Bench(tmp_path, ALONE + "budget: {trials: 4, epochs: 3}\n").drive(script)
    assert [line for line in said if "store" in line] == [away.text, back.text, away.text]
