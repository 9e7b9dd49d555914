"""What processes that train together agree on: parts of a batch, sums of an epoch, statistics of norms."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.data.part import WHOLE, Part
from trainers.epoch_sums import EpochSums
from trainers.together import Together


def others(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """One more process, which has these values."""
    monkeypatch.setattr(dist, "all_reduce", lambda mine: mine.add_(torch.tensor(values)))


def test_parts_are_equal_and_together_the_batch() -> None:
    order = torch.randperm(12)
    assert torch.cat([Part(number, 3).of(order) for number in range(3)]).equal(order)
    assert WHOLE.of(order).equal(order)
    assert [len(Part(number, 2).of(order[:5])) for number in range(2)] == [2, 2]


def test_a_batch_is_one_that_all_processes_have_equal_parts_of() -> None:
    assert [Together(Part(0, 4)).batch(images) for images in (64, 66, 4)] == [64, 64, 4]
    with pytest.raises(ValueError, match="3 images cannot be divided among 4 processes"):
        Together(Part(0, 4)).batch(3)


def test_sums_of_an_epoch_are_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EpochSums(
        steps=2, images=10, terms={"b": torch.tensor(1.0), "a": torch.tensor(2.0)}, correct=4.0,
        macs=torch.tensor(8.0),
    )  # fmt: skip
    others(monkeypatch, 4.0, 2.0, 10.0, 0.0, 6.0)  # a, b, macs, opened, correct
    found = Together(Part(1, 2)).summed(mine)
    assert found.means(2.0) == pytest.approx(
        {"train/a": 1.5, "train/b": 0.75, "train/loss": 2.25, "train/accuracy": 0.5,
         "train/macs": 4.5, "train/open": 0.0, "train/images_per_second": 10.0}
    )  # fmt: skip
    assert Together().summed(mine) is mine


def test_norms_have_the_mean_of_all_processes_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(1, track_running_stats=False))
    others(monkeypatch, 2.0, 4.0, 3.0, 5.0)
    Together(Part(0, 2)).average_norms(net)
    first = net[0]
    assert isinstance(first.running_mean, Tensor)
    assert isinstance(first.running_var, Tensor)
    assert first.running_mean.tolist() == [1.0, 2.0]
    assert first.running_var.tolist() == [2.0, 3.0]


def test_each_process_draws_what_no_other_does() -> None:
    seeds = {Together(Part(number, 3)).seed(seed) for number in range(3) for seed in (0, 2**31 - 1)}
    assert len(seeds) == 6
    assert Together(Part(0, 3)).seed(7) == 7


def test_objectives_have_the_state_of_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "broadcast_object_list", lambda some, src: some.__setitem__(0, "its"))
    objective = Mock()
    Together(Part(1, 2)).agree(objective)
    objective.load.assert_called_once_with("its")
    Together().agree(objective)
    assert objective.load.call_count == 1
