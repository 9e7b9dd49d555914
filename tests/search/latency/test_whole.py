"""On which images a whole network is timed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from search.latency.whole import IMAGES, LOOKED, _typical
from trainers.data.pixels import HeldPixels
from trainers.data.split import Split, evenly


def split_of(brightness_N: Tensor) -> Split:
    """Images of one gray each."""
    images = brightness_N.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).numpy()
    number = torch.arange(len(brightness_N))
    return Split(number, number, HeldPixels(images.copy()))


def net() -> Any:
    """Computes as much for an image as it is bright."""
    return cast(Any, SimpleNamespace(run=lambda x_BCHW: (x_BCHW, x_BCHW.mean((1, 2, 3)))))


def test_the_images_take_as_much_in_the_mean_and_in_the_extremes_as_all() -> None:
    draw = torch.Generator().manual_seed(0)
    few_hard = torch.where(torch.rand(LOOKED, generator=draw) < 0.2, 250, 20)
    places_N = _typical(net(), split_of(few_hard), 1)
    assert len(places_N) == len(set(places_N.tolist())) == IMAGES
    chosen = few_hard[places_N].double()
    assert abs(chosen.mean() - few_hard.double().mean()) < 230 / IMAGES
    assert set(chosen.tolist()) == {20.0, 250.0}


def test_of_few_images_all_are_taken_and_batches_are_spread_evenly() -> None:
    bright = torch.arange(20)
    assert _typical(net(), split_of(bright), 1).tolist() == list(range(20))
    assert _typical(net(), split_of(torch.arange(200)), 4).tolist() == evenly(200, 128).tolist()


def test_a_static_network_is_timed_on_images_of_the_whole_split() -> None:
    static = cast(Any, SimpleNamespace(run=lambda x: (x, torch.ones(()))))
    places_N = _typical(static, split_of(torch.arange(200)), 1)
    assert len(places_N) == IMAGES
    assert places_N.min() < 10
    assert places_N.max() > 190
