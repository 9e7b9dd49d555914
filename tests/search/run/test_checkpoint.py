"""Two processes that train the same trial: one was suspended, and its study was taken over."""

from __future__ import annotations

from pathlib import Path

import torch

from search.run.checkpoint import Slot
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
