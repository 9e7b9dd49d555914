"""Two processes that train the same trial: one was suspended, and its study was taken over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import storage.checkpoints
from search.run.checkpoint import Slot
from storage.checkpoint_files import UNFINISHED
from storage.checkpoints import Checkpoints


def slot(folder: Path, seed: int = 0) -> Slot:
    identity = {"family": "f", "epochs": 9, "params": {}, "seed": seed, "data": {}, "init": None}
    return Slot(Checkpoints(folder), "s/search-0", identity, {})


def save(one: Slot, epoch: int) -> None:
    one.save({"x": torch.full((2,), float(epoch))}, {"epochs_done": epoch})


def stored(folder: Path) -> int:
    found = Checkpoints(folder).load("s/search-0")
    assert found is not None
    assert found[0]["x"].tolist() == [found[1]["epochs_done"]] * 2
    return int(found[1]["epochs_done"])


def test_whoever_wakes_up_does_not_take_a_training_back(tmp_path: Path) -> None:
    asleep = slot(tmp_path)
    assert asleep.load() is None
    save(asleep, 1)
    other = slot(tmp_path)
    assert other.load() is not None
    for epoch in (2, 3, 4):
        save(other, epoch)
    for epoch in (2, 3):
        save(asleep, epoch)
        assert stored(tmp_path) == 4
    save(other, 5)
    assert stored(tmp_path) == 5


def test_what_lay_there_before_is_no_other_process(tmp_path: Path) -> None:
    """As where a checkpoint is damaged, or of another training: that one begins afresh."""
    save(slot(tmp_path), 7)
    for fresh in (slot(tmp_path), slot(tmp_path, seed=1)):
        fresh.load()
        save(fresh, 1)
        assert stored(tmp_path) == 1
        save(slot(tmp_path), 7)


def test_one_that_was_suspended_while_it_wrote_puts_nothing_in_place_of_what_came_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep, other = slot(tmp_path), slot(tmp_path)
    save(asleep, 1)
    other.load()
    real = storage.checkpoints.save_weights

    def suspended(*given: Any) -> None:
        real(*given)
        monkeypatch.undo()
        with monkeypatch.context() as there:
            there.setattr(os, "getpid", lambda: 7)
            for epoch in (2, 3):
                save(other, epoch)

    monkeypatch.setattr(storage.checkpoints, "save_weights", suspended)
    save(asleep, 2)
    assert stored(tmp_path) == 3
    assert list(tmp_path.rglob(f"*{UNFINISHED}")) == []
