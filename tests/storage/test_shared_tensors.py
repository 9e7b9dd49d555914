"""Tensors that checkpoints share: kept once, found by all, written anew where they are lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from storage.checkpoints import Checkpoints
from storage.shared_tensors import SHARED

TRUNK = {"net.trunk": torch.arange(1000.0), "net.count": torch.tensor(3)}


def saved(folder: Path, key: str, epoch: int, trunk: dict[str, Tensor] = TRUNK) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    head = {"net.head": torch.full((3,), float(epoch))}
    checkpoints.save(key, trunk | head, {"epoch": epoch}, trunk.keys())
    return checkpoints


def shared_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SHARED}"))


def test_what_checkpoints_share_lies_once_in_their_folder(tmp_path: Path) -> None:
    saved(tmp_path, "s/search-0", 1)
    checkpoints = saved(tmp_path, "s/search-1", 2)
    (file,) = shared_files(tmp_path)
    assert file.parent == tmp_path / "s"
    own = (tmp_path / "s" / "search-1.safetensors").stat().st_size
    assert own < 1000 < file.stat().st_size
    for key, epoch in (("s/search-0", 1), ("s/search-1", 2)):
        found = checkpoints.load(key)
        assert found is not None
        tensors, state = found
        assert state == {"epoch": epoch}
        assert tensors.keys() == {*TRUNK, "net.head"}
        assert all(torch.equal(tensors[name], value) for name, value in TRUNK.items())
        assert tensors["net.head"].tolist() == [epoch] * 3
    assert checkpoints.keys() == ["s/search-0", "s/search-1"]


def test_other_values_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    saved(tmp_path, "s/search-0", 1)
    saved(tmp_path, "s/search-1", 1, {**TRUNK, "net.count": torch.tensor(4)})
    assert len(shared_files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["gone", "short", "changed"])
def test_without_them_there_is_no_checkpoint_until_a_training_writes_them_again(
    tmp_path: Path, damage: str
) -> None:
    checkpoints = saved(tmp_path, "s/search-0", 1)
    (file,) = shared_files(tmp_path)
    if damage == "gone":
        file.unlink()
    elif damage == "short":
        os.truncate(file, 1000)
    else:
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
    assert checkpoints.load("s/search-0") is None
    saved(tmp_path, "s/search-1", 2)
    assert checkpoints.load("s/search-0") is not None


def test_a_training_under_way_writes_them_again_where_they_were_deleted(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, "s/search-0", 1)
    shared_files(tmp_path)[0].unlink()
    checkpoints.save("s/search-0", TRUNK, {"epoch": 2}, TRUNK.keys())
    found = checkpoints.load("s/search-0", latest=True)
    assert found is not None
    assert found[1] == {"epoch": 2}
