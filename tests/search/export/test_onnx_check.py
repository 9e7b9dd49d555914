"""On which images a file is compared and calibrated, and what is compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from search.export import onnx_check, variants
from search.export.comparison import ParityError
from search.export.onnx_check import compare_onnx
from trainers.data.pixels import HeldPixels
from trainers.data.split import Split

CLASSES = 10


def stored_by_class(images: int) -> Split:
    """Images of a class are of one brightness, and lie behind each other."""
    of_class = np.arange(images, dtype=np.int64) * CLASSES // images
    pixels = np.broadcast_to(of_class.astype(np.uint8)[:, None, None, None], (images, 1, 4, 4))
    return Split(torch.from_numpy(of_class), torch.arange(images), HeldPixels(pixels.copy()))


def classes_in(pixels: Tensor) -> set[int]:
    return set(pixels[:, 0, 0, 0].mul(255).round().int().tolist())


def answered(pixels: Tensor, macs: float = 1e6) -> tuple[Tensor, Tensor]:
    return pixels.flatten(1)[:, :3], torch.full((len(pixels),), macs)


def session(macs: float) -> Any:
    def run(names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert names == ["logits", "macs"]
        return [one.numpy() for one in answered(torch.from_numpy(given["pixels"]), macs)]

    return SimpleNamespace(run=run)


def test_what_is_compared_and_calibrated_on_is_of_all_classes() -> None:
    images = stored_by_class(2000)
    assert classes_in(onnx_check._pixels(images)) == set(range(CLASSES))
    batches = [torch.from_numpy(one) for one in variants._pixels(images, variants.CALIBRATED_ON)]
    assert sum(map(len, batches)) == variants.CALIBRATED_ON
    assert classes_in(torch.cat(batches)) == set(range(CLASSES))


def test_a_file_that_gives_other_macs_than_the_network_is_an_error() -> None:
    net, images = cast(Any, SimpleNamespace(run=answered)), stored_by_class(100)
    assert compare_onnx(net, session(1e6), images)["images"] == onnx_check.IMAGES
    with pytest.raises(ParityError, match=r"MACs that onnxruntime gives differ by up to 10\.00%"):
        compare_onnx(net, session(1.1e6), images)
