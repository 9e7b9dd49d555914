"""Networks as they look after a training: batch-norm statistics away from 0 and 1, gates that read the image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spaces.contract.net import DynamicNet
from spaces.contract.task import Task
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig
from tests.spaces.gated import SMALL, builder


def scrambled(net: DynamicNet, seed: int = 0) -> DynamicNet:
    """The network in float64 eval mode, its norms and gates randomised so that gates open about half of the time."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                ):
                    if tensor is not None:  # a linear probe's norm has no weights
                        tensor.uniform_(low, high, generator=generator)
        for parameter in net.gate_parameters():
            # or two convolutions in a row saturate a gate
            fan_in = parameter[0].numel() if parameter.ndim == 4 else 1
            parameter.normal_(
                0.0, 2.0 * fan_in**-0.5 if parameter.ndim > 1 else 0.5, generator=generator
            )
    return net


@pytest.fixture
def resnet() -> Callable[..., GatedResNet]:
    """A small scrambled gated ResNet; keywords are those of its config, and `task`."""
    return builder(
        GatedResNet, GatedResNetConfig, {"backbone": "resnet14", "width": 0.5}, scrambled
    )


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """Random images (B, C, H, W) in float64, each with brightness and contrast of its own."""

    def draw(count: int, task: Task = SMALL, seed: int = 3) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (count, task.channels, task.height, task.width)
        pixels = torch.randn(shape, generator=generator, dtype=torch.float64)
        contrast, brightness = 2 * torch.randn(
            (2, *shape[:2], 1, 1), generator=generator, dtype=torch.float64
        )
        return pixels * contrast + brightness

    return draw


@pytest.fixture
def scramble() -> Callable[..., DynamicNet]:
    return scrambled
