"""Selecting input features with learned gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.policies import AlwaysOn, Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.families.gated_features import GatedFeatures
from trainers.data.pixels import HeldPixels
from trainers.data.splits import ImageData, Split
from trainers.evaluate import evaluate
from trainers.fit import fit

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


TOGETHER, ALONE = {3, 12}, 5  # places in the bank


def bank(count: int, seed: int) -> Split:
    """Images whose cells are 16 features of four numbers each; the label is the parity of what two of them say.

    Alone neither of the two tells anything of the label, and a third feature says it for 70 % of the images.
    """
    draws = np.random.default_rng(seed)
    first_N, second_N = draws.integers(0, 2, (2, count))
    label_N = first_N ^ second_N
    weak_N = label_N ^ (draws.random(count) < 0.3)
    features = draws.uniform(0, 1, (count, 16, 4))
    for place, said_N in zip((*sorted(TOGETHER), ALONE), (first_N, second_N, weak_N), strict=True):
        features[:, place] = 0.25 + 0.5 * said_N[:, None] + draws.normal(0, 0.1, (count, 4))
    tiles = features.reshape(count, 4, 4, 2, 2).transpose(0, 1, 3, 2, 4).reshape(count, 1, 8, 8)
    pixels = np.rint(255 * tiles.clip(0, 1)).astype(np.uint8)
    return Split(torch.from_numpy(label_N), torch.arange(count), HeldPixels(pixels))


@pytest.mark.slow
def test_of_a_bank_those_features_are_kept_that_are_best_together_not_alone() -> None:
    data = ImageData(
        train=bank(1024, 0),
        validation=bank(512, 1),
        classes=("even", "odd"),
        channels=1,
        height=8,
        width=8,
        mean=(0.5,),
        std=(0.29,),
        flip=False,
    )
    recipe = {"batch": 64, "augment": False, "adamw_lr": 3e-3, "gate_lr_mult": 5.0}
    gates = {"loss": "per_batch", "loss_weight": 5.0, "target": len(TOGETHER) / 16}
    values = {"cell": 2, "hidden": 32, **gates, **recipe}
    for seed in range(2):
        candidate = Candidate.of(family("gated_features"), values, 20)
        net = candidate.build(task_of(data), seed)
        list(fit(net, data, candidate.recipe, seed=seed))
        table = evaluate(net, data.validation, data, Knobs())
        assert {cell for cell, rate in enumerate(table.rates["cells"]) if rate} == TOGETHER
        assert table.accuracy > 0.97
