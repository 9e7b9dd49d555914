"""Pixels brought to the mean and deviation that published weights were trained with.

A network is given pixels at the mean and deviation of the study's images. Weights that keep their values expect those
of the images that they were trained on.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spaces.contract.task import Task

NORMALIZATIONS = ("auto", "images", "published")


class PublishedPixels(nn.Module):
    """Normalised images of a task as images normalised by other means and deviations (of pixels in [0, 1]).

    Gray images get the mean over the channels of colour statistics. No part of a state dict: it follows from the task.
    """

    scale: Tensor  # (C, 1, 1)
    shift: Tensor

    def __init__(self, task: Task, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        ours_mean, ours_std = _channels(task.mean, task), _channels(task.std, task)
        wanted_mean, wanted_std = _channels(mean, task), _channels(std, task)
        self.register_buffer("scale", ours_std / wanted_std, persistent=False)
        self.register_buffer("shift", (ours_mean - wanted_mean) / wanted_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def _channels(values: Sequence[float], task: Task) -> Tensor:
    found = torch.tensor([float(value) for value in values])
    if len(found) != task.channels:
        found = found.mean().expand(task.channels)
    return found[:, None, None].clone()
