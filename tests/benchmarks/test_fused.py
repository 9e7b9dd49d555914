"""Networks that train fused have the weights that each has when it trains alone."""

from __future__ import annotations

import copy
from argparse import Namespace

import pytest
import torch

import benchmarks.fused
from benchmarks.fused import Alone, Fused, Numbers, apart_after, batch
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task

SIZES = Namespace(device="cpu", batch=8, channels=1, side=8)
TASK = Task(channels=1, height=8, width=8, classes=10)


@pytest.mark.parametrize("granularity", ["layer", "joint"])
def test_weights_and_statistics_of_each_are_those_of_its_training_alone(
    granularity: str,
) -> None:
    candidate = Candidate.of(
        family("gated_resnet"), {"backbone": "resnet8", "granularity": granularity}, 1
    )
    nets = [candidate.build(TASK, seed).train() for seed in range(3)]
    before = copy.deepcopy(nets)
    numbers = Numbers.of(len(nets), "cpu")
    alone = [Alone(copy.deepcopy(net), numbers, i) for i, net in enumerate(nets)]
    fused = Fused(nets, numbers)
    for step in range(2):
        given = batch(step, nets, SIZES)
        fused.step(*given)
        for one in alone:
            one.step(*given)
    for i, one in enumerate(alone):
        assert fused.apart(one.net, i) < 1e-4 < fused.apart(before[i], i)
        for name, known in one.net.named_buffers():
            torch.testing.assert_close(fused.buffers[name][i], known, rtol=1e-4, atol=1e-5)


def test_in_double_precision_only_the_last_bits_of_weights_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmarks.fused, "SHOWN", (1, 3))
    sizes = Namespace(**vars(SIZES), backbone="resnet8", width=0.25, granularity="layer")
    found = dict(apart_after(2, torch.float64, sizes))
    assert list(found) == [1, 3]
    assert max(found[3]) < 1e-14
