"""With how many threads the latency of an exported model is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search.export import latency as measure
from search.export.card import threads_text
from search.export.latency_text import average_ms
from search.export.measures import batch_of
from spaces.contract.task import Task
from spaces.deploy.unit_program import empty_program
from trainers.data.pixels import HeldPixels
from trainers.data.splits import Split
from trainers.latency import torch_threads


class Net:
    """Stands for a network in PyTorch and in ONNX Runtime; keeps PyTorch's threads at each call."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __call__(self, pixels: Tensor) -> None:
        self.threads.add(torch.get_num_threads())

    def run(self, outputs: None, given: dict[str, Any]) -> None:
        self.threads.add(torch.get_num_threads())


def test_latency_is_of_one_thread_and_the_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "REPEATS", {1: 2, 64: 2})
    black = HeldPixels(np.zeros((8, 3, 8, 8), np.uint8))
    images = Split(torch.zeros(8, dtype=torch.int64), torch.arange(8), black)
    ours, static = Net(), Net()
    with torch_threads(4):
        found = measure.latency((ours, static), (ours, static), (images, images))
        measure.beside_onnxruntime(ours, static, images)
        assert torch.get_num_threads() == 4
    assert ours.threads == static.threads == {1}
    assert threads_text(found) == "1 thread"


def test_onnxruntime_has_one_thread_however_many_pytorch_has() -> None:
    with torch_threads(4):
        session = measure.session_of(empty_program())
    assert session.get_session_options().intra_op_num_threads == 1


def test_a_batch_that_is_not_full_is_not_timed() -> None:
    black = HeldPixels(np.zeros((70, 3, 8, 8), np.uint8))
    images = Split(torch.zeros(70, dtype=torch.int64), torch.arange(70), black)
    assert [len(one) for one in measure._spread(images, 64)] == [64]
    assert [len(one) for one in measure._spread(images.some(10), 64)] == [10]


@pytest.mark.parametrize("size", [1, 64])
def test_latency_is_of_images_of_all_classes_however_few_are_timed(size: int) -> None:
    """They are stored class by class, and images of a class are of one brightness."""
    brightness = np.repeat(np.arange(10, dtype=np.uint8), 200)
    pixels = np.broadcast_to(brightness[:, None, None, None], (2000, 1, 4, 4)).copy()
    images = Split(torch.from_numpy(brightness).long(), torch.arange(2000), HeldPixels(pixels))
    batches = measure._spread(images, size)
    assert len(batches) == measure.INPUTS[size]
    first = torch.cat(batches)[:64, 0, 0, 0].mul(255).round()
    assert first.unique().tolist() == list(range(10))
    assert first.mean() == pytest.approx(4.5, abs=1)


def test_images_are_measured_in_batches_that_stay_in_the_caches() -> None:
    sizes = {32: 256, 64: 64, 128: 16, 1024: 1}
    for side, images in sizes.items():
        assert batch_of(Task(channels=3, height=side, width=side, classes=2)) == images


def test_exports_of_before_the_mean_was_kept_have_their_median() -> None:
    assert average_ms({"median": 2.0, "low": 1.0, "high": 3.0}) == 2
    assert average_ms({"median": 2.0, "low": 1.0, "high": 3.0, "mean": 4.0}) == 4
