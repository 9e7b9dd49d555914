"""The plain MobileNetV2: backbone of gated networks and their static reference.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR, 2018.
Differs: no dropout before the classifier; small images are halved less often (see `strides`); the number of units a
stage can be scaled. Parameters carry the names of torchvision's mobilenet_v2, whose weights load at the same size.

Shapes: B images, C channels, H x W pixels, E expanded channels of a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.space import choice
from spaces.contract.task import Task

STAGES = (  # expansion, channels, units, stride of the first unit
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
HALVINGS = 5  # of the published network, the stem's included
SMALLEST = 4  # pixels of the shorter side that the cifar stem keeps in the last map


@dataclass(frozen=True, kw_only=True)
class MobileNetConfig:
    """Size and strides of a MobileNetV2."""

    width: float = choice(
        0.25, 0.35, 0.5, 0.75, 1.0, 1.4, default=1.0, doc="multiplies the channels"
    )
    depth: float = choice(
        0.5, 1.0, 1.5, default=1.0, searched=False, doc="multiplies the units of each stage"
    )
    stem: str = choice(
        "cifar", "imagenet", default="cifar", searched=False,
        doc="halve small images less often, or all images five times as published",
    )  # fmt: skip


class Bottleneck(nn.Module):
    """An inverted residual: 1x1 expansion, 3x3 depthwise and linear 1x1 convolution, added to its input if it fits.

    The mask on expanded channels stands after the depthwise batch norm and ReLU6. Any earlier, the depthwise batch
    norm's shift would open closed channels again; here they add nothing and need none of the three convolutions.
    """

    activation = staticmethod(F.relu6)  # between the convolutions

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.expanded = inputs * expansion
        expand = [conv_norm(inputs, self.expanded, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_norm(self.expanded, self.expanded, 3, stride, groups=self.expanded),
            nn.Conv2d(self.expanded, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.inputs, self.outputs, self.stride = inputs, outputs, stride

    @property
    def expands(self) -> bool:
        return self.expanded != self.inputs

    @property
    def identity(self) -> bool:
        """Whether the input is added to what the convolutions make of it."""
        return self.stride == 1 and self.inputs == self.outputs

    def residual(self, u_BCHW: Tensor, mask_BE: Tensor | None = None) -> Tensor:
        """What the convolutions make of u; `mask_BE` has B = 1 where it is the same for all."""
        *spread, project, norm = self.conv
        for layer in spread:
            u_BCHW = layer(u_BCHW)
        if mask_BE is not None:
            u_BCHW = u_BCHW * mask_BE[:, :, None, None].to(u_BCHW.dtype)
        return norm(project(u_BCHW))

    def convolutions(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The two or three convolutions, each with its batch norm."""
        layers = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        return list(zip(layers, norms, strict=True))

    def masked_convolutions(
        self, mask_BE: Tensor | None
    ) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor | None]]:
        """The convolutions, each with its batch norm and the mask of its filters: a closed channel needs none of them.

        The depthwise convolution has the same channels as the one before it.
        """
        *spread, (project, norm) = self.convolutions()
        return [*((conv, its_norm, mask_BE) for conv, its_norm in spread), (project, norm, None)]


class MobileNet(nn.Module):
    """A MobileNetV2 for a task; `sizes[l]` is the (height, width) of unit l's output, `sizes[-1]` of the stem's."""

    def __init__(self, config: MobileNetConfig, task: Task) -> None:
        super().__init__()
        self.task = task
        first, *rest = strides(config.stem, task.height, task.width)
        channels = divisible(32 * config.width)
        last = divisible(1280 * max(1.0, config.width))
        size = _halved(task.height, first), _halved(task.width, first)
        self.sizes: dict[int, tuple[int, int]] = {-1: size}
        layers: list[nn.Module] = [conv_norm(task.channels, channels, 3, first)]
        self.ends: list[int] = []  # the last unit of each stage
        self._unit_macs: list[int] = []
        for (expansion, outputs, units, _), stage_stride in zip(STAGES, rest, strict=True):
            for position in range(ceil(units * config.depth)):
                stride = 1 if position else stage_stride
                unit = Bottleneck(channels, divisible(outputs * config.width), stride, expansion)
                layers.append(unit)
                channels, before, size = (
                    unit.outputs,
                    size,
                    (_halved(size[0], stride), _halved(size[1], stride)),
                )
                self._unit_macs.append(_unit_macs(unit, before, size))
                self.sizes[len(layers) - 2] = size
            self.ends.append(len(layers) - 2)
        self.features = nn.Sequential(*layers, conv_norm(channels, last, 1))
        # torchvision has dropout first
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(last, task.classes))
        _initialise(self)

    @property
    def units(self) -> list[Bottleneck]:
        return [unit for unit in self.features if isinstance(unit, Bottleneck)]

    @property
    def fc(self) -> nn.Linear:
        linear = self.classifier[1]
        assert isinstance(linear, nn.Linear)
        return linear

    def head(self, u: Tensor) -> Tensor:
        return self.classifier(u.mean((2, 3)))

    def unit_macs(self, index: int) -> int:
        """MACs of a unit; each of its expanded channels has an equal share in all its convolutions."""
        return self._unit_macs[index]

    def stem_macs(self) -> int:
        return conv_macs(_first_conv(self.features[0]), *self.sizes[-1])

    def last_macs(self) -> int:
        """MACs of the 1x1 convolution behind the units."""
        return conv_macs(_first_conv(self.features[-1]), *self.sizes[len(self.units) - 1])

    def total_macs(self) -> int:
        """MACs of one image through the baseline."""
        units = sum(self.unit_macs(index) for index in range(len(self.units)))
        return self.stem_macs() + units + self.last_macs() + linear_macs(self.fc)

    def stage_ends(self) -> list[Place]:
        """Where exits may be: where the published network is about to halve the map, but behind the first stage."""
        ends = [
            self.ends[stage] for stage in range(1, len(STAGES) - 1) if STAGES[stage + 1][3] == 2
        ]
        return [Place(index, self.units[index].outputs, *self.sizes[index]) for index in ends]


def strides(stem: str, height: int, width: int) -> list[int]:
    """Strides of the stem and of each stage's first unit.

    imagenet: as published, and a ValueError where the image is too small for that. cifar: as many halvings as leave
    SMALLEST pixels on the shorter side; the first ones of the published network are left out (32x32: three of five,
    8x8: one, 128x128 and larger: none is left out).
    """
    side = min(height, width)
    if stem == "imagenet" and side < 2**HALVINGS:
        raise ValueError(
            f"stem: imagenet halves images {HALVINGS} times, {height}x{width} is too small; use cifar"
        )
    kept = HALVINGS
    if stem == "cifar":
        kept = 0
        while kept < HALVINGS and (side := _halved(side, 2)) >= SMALLEST:
            kept += 1
    dropped, found = HALVINGS - kept, []
    for stride in (2, *(stage[3] for stage in STAGES)):
        found.append(1 if stride == 2 and dropped > 0 else stride)
        dropped -= stride == 2
    return found


def divisible(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, 8 at least and never below 90 % of it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def _halved(size: int, stride: int) -> int:
    return (size - 1) // stride + 1


def _unit_macs(unit: Bottleneck, before: tuple[int, int], after: tuple[int, int]) -> int:
    """MACs of a unit that turns maps of the size `before` into maps of the size `after`."""
    *expand, (depthwise, _), (project, _) = unit.convolutions()
    spread = sum(conv_macs(conv, *before) for conv, _ in expand)
    return spread + conv_macs(depthwise, *after) + conv_macs(project, *after)


def _first_conv(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Sequential)
    assert isinstance(layer[0], nn.Conv2d)
    return layer[0]


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
