"""A full disk, or a folder that cannot be written: one line, nothing is lost, and the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import storage.checkpoints
import storage.database
from search.run.engine import InProcess
from search.run.job import Failure, Job
from storage.checkpoints import Checkpoints
from storage.errors import StorageError, UnwrittenError
from storage.store import Store
from tests.search.run.bench import ALONE, Bench, outcome
from tests.search.run.jobs import drained, job
from trainers.fit import EpochResult

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


def full(*_: Any, **__: Any) -> None:
    raise SafetensorError(FULL)


def read_only(*_: Any, **__: Any) -> None:
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("failing", [full, read_only])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Any
) -> None:
    kept = Checkpoints(tmp_path)
    kept.save("s/a", {"x": torch.ones(1)}, {"epoch": 1})
    monkeypatch.setattr(storage.checkpoints, "save_weights", failing)
    with pytest.raises(UnwrittenError, match=r"a.safetensors: .*; .* run the same command again"):
        kept.save("s/a", {"x": torch.zeros(1)}, {"epoch": 2})
    found = kept.load("s/a")
    assert found is not None
    assert found[1] == {"epoch": 1}
    assert [file.name for file in tmp_path.rglob("*.*")] == ["a.safetensors"]


def test_a_study_whose_disk_is_full_stops_without_loss_and_goes_on_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ALONE + "budget: {trials: 3, epochs: 3}\n")
    metrics = {"val/accuracy": 0.5, "val/macs": 1.0}

    def script(job: Job, attempt: int) -> list[Any]:
        if job.number == 1 and not there_is_space:
            return [EpochResult(1, metrics, {}), Failure(f"x: {FULL}", 2, "", unwritten=True)]
        return [outcome(0.5, 1e6 * (job.number + 1))]

    there_is_space = False
    for _ in range(4):  # as often as a person tries; a training has three attempts
        with pytest.raises(StorageError, match="No space left on device"):
            bench.drive(script)
        assert bench.states() == {0: "complete", 1: "running"}
    assert bench.store.failures("s") == []
    there_is_space = True
    bench.drive(script)
    assert bench.states() == dict.fromkeys(range(3), "complete")


@pytest.mark.slow
def test_a_training_that_cannot_write_its_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.checkpoints, "save_weights", full)
    engine = InProcess()
    engine.submit(job(tmp_path))
    ((_, failure),) = drained(engine, 1)
    assert isinstance(failure, Failure)
    assert failure.unwritten
    assert failure.error.endswith("(os error 28); free some space and run the same command again")


def test_a_database_without_space_says_so_in_one_line_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'dynafront.db'}"
    store = Store.open(url)
    store.add_study("s", {}, "", {})
    store.close()
    prepare = storage.database._prepare_sqlite

    def small(connection: Any, record: Any) -> None:
        prepare(connection, record)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}").close()

    with monkeypatch.context() as patch:
        patch.setattr(storage.database, "_prepare_sqlite", small)
        tight = Store.open(url)
        with pytest.raises(StorageError, match=r"full; free some space and run the same command"):  # noqa: PT012
            for number in range(1000):
                tight.add_study(f"s{number}", {}, "x" * 10_000, {})
        written = len(tight.studies())
        tight.close()
    again = Store.open(url)
    assert len(again.studies()) == written
    again.add_study("later", {}, "x" * 10_000, {})
