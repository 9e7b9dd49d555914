"""Selecting input features with learned gates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.families.gated_features import GatedFeatures

TASK = Task(channels=1, height=4, width=4, classes=2)


def built(task: Task = TASK, **values: object) -> GatedFeatures:
    net = Candidate.of(family("gated_features"), dict(values), 1).build(task, 0)
    assert isinstance(net, GatedFeatures)
    return net


def test_cells_tile_the_image_and_padding_fills_the_rest() -> None:
    net = built(Task(channels=2, height=5, width=4, classes=2), cell=2)
    cells = net.cells_of(torch.arange(40.0).view(1, 2, 5, 4))
    assert cells.shape == (1, 3 * 2, 2 * 4)
    assert cells[0, 0].tolist() == [0, 1, 4, 5, 20, 21, 24, 25]
    assert cells[0, 4].tolist() == [16, 17, 0, 0, 36, 37, 0, 0]


def test_closed_cells_are_not_read() -> None:
    net = built(hidden=16).eval()
    only = Threshold(fixed={"cells": (1.0, 0.0) * 8})
    x = torch.randn(3, 1, 4, 4)
    other = x.clone()
    other.view(3, 16)[:, 1::2] = 9.0
    assert torch.equal(net(x, only).logits_BC, net(other, only).logits_BC)
    assert net(x, only).macs_B.tolist() == [net.plain_macs - 8 * 16] * 3
    assert net(x, AlwaysOn()).macs_B.tolist() == [net.plain_macs] * 3


def test_a_cell_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^cell: 8 pixels do not fit an image of 4x4$"):
        built(cell=8)


@pytest.mark.slow
def test_features_that_only_tell_something_together_are_found_among_many_that_tell_nothing() -> (
    None
):
    """The label is the parity of two of 16 features: alone, none of them is correlated with it."""
    recovered = 0
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        informative = torch.randperm(16, generator=generator)[:2].tolist()
        x = torch.randn(2048, 16, generator=generator)
        y = (x[:, informative[0]] * x[:, informative[1]] > 0).long()
        alone = [
            abs(float(torch.corrcoef(torch.stack([x[:, f], y.float()]))[0, 1])) for f in range(16)
        ]
        assert max(alone) < 0.1
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = built(hidden=64, loss="per_batch", target=2 / 16, loss_weight=5.0, bias_init=2.0)
            objective = net.train().objective(Plan(epochs=1, steps=600, seed=seed))
            optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
            for step in range(600):
                rows = torch.randint(0, 2048, (256,))
                output = net(x[rows].view(-1, 1, 4, 4), objective.policy(step, rows))
                terms = objective.losses(output, y[rows])
                weight = min(1.0, step / 300)  # learn first, then select
                loss = terms["cross_entropy"] + weight * terms["per_batch_channel"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        p = net.eval()(x[:2].view(-1, 1, 4, 4), Threshold()).decisions[0].p_BU
        assert p is not None
        recovered += set(p[0].topk(2).indices.tolist()) == set(informative)
        accuracy = (net(x.view(-1, 1, 4, 4), Threshold()).logits_BC.argmax(1) == y).float().mean()
        assert F.relu(0.9 - accuracy) == 0
    assert recovered == 3
