"""Cascades of untrained networks whose predicted latency is compared with the measured one."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.latency import runs_of, timed
from benchmarks.latency_cascades import Member, joined, resizing

SMALL: tuple[Member, ...] = (
    ("gated_resnet", 0.5, {"backbone": "resnet8", "width": 0.25}),
    ("multi_exit", 1, {"backbone": "resnet18", "width": 0.125}),
)


@pytest.mark.slow
def test_a_cascade_is_predicted_and_timed_on_the_same_images() -> None:
    pixels = torch.rand(4, 3, 16, 16) * torch.linspace(0.1, 1, 4)[:, None, None, None]
    one = joined(SMALL, pixels)
    assert [member.net.task.height for member in one.members] == [8, 16]
    assert 0 < int((one.stages == 1).sum()) < 4
    runs = runs_of(one.net, pixels)
    table, measured = timed(one.members, [runs], 0.1, time.thread_time, resizing(one))
    assert 0 < one.predicted(table) < 100
    assert len(measured) == 1
    assert measured[0] > 0
