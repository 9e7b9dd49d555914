"""The plain CIFAR ResNet-(6n+2): backbone of gated networks and their static reference.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR, 2016. Takes any number of channels and
any image size (the smallest map of an 8x8 image is 2x2), a width multiplier, and shortcut option A (subsample and
pad with zeros) or B (1x1 convolution and batch norm).

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.compute import conv_macs, linear_macs
from spaces.place import Place
from spaces.space import choice
from spaces.task import Task

DEPTHS = {"resnet8": 1, "resnet14": 2, "resnet20": 3, "resnet32": 5, "resnet56": 9, "resnet110": 18}


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Size and shortcut of a CIFAR ResNet."""

    backbone: str = choice(*DEPTHS, default="resnet20", doc="depth of the residual network")
    width: float = choice(
        0.25, 0.5, 0.75, 1.0, 1.5, 2.0, default=1.0, searched=False, doc="multiplies 16, 32 and 64 channels"
    )
    shortcut: str = choice(
        "A", "B", default="B", searched=False, doc="where the shape changes: zero-padding, or 1x1 convolution"
    )


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut: relu(skip(u) + residual(u)).

    The residual takes masks on the first convolution's filters (after batch norm and ReLU: a closed filter is zero
    for the second convolution) and on the last one's (after batch norm: a closed filter adds nothing).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.extra = outputs - inputs
        self.shortcut: nn.Module | None = None
        if shortcut == "B" and (stride != 1 or self.extra):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    @property
    def identity(self) -> bool:
        """Whether the shortcut returns its input."""
        return self.stride == 1 and not self.extra

    def skip(self, u: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.shortcut(u)
        if self.identity:
            return u
        return F.pad(u[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def residual(self, u: Tensor, inner: Tensor | None = None, outer: Tensor | None = None) -> Tensor:
        """inner, outer: masks (B or 1, filters), or None where every filter is open."""
        h = F.relu(self.bn1(self.conv1(u)), inplace=True)
        if inner is not None:
            h = h * inner[:, :, None, None].to(h.dtype)
        r = self.bn2(self.conv2(h))
        return r if outer is None else r * outer[:, :, None, None].to(r.dtype)

    def forward(self, u: Tensor) -> Tensor:
        return F.relu(self.skip(u) + self.residual(u), inplace=True)


class ResNet(nn.Module):
    """A CIFAR ResNet for a task; `sizes[l]` is the (height, width) of block l's output."""

    def __init__(self, config: ResNetConfig, task: Task) -> None:
        super().__init__()
        self.task = task
        widths = [max(1, round(w * config.width)) for w in (16, 32, 64)]
        self.conv1 = nn.Conv2d(task.channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        blocks: list[Block] = []
        self.sizes: list[tuple[int, int]] = []
        height, width, inputs = task.height, task.width, widths[0]
        for stage, outputs in enumerate(widths):
            for position in range(DEPTHS[config.backbone]):
                stride = 2 if stage and not position else 1
                blocks.append(Block(inputs, outputs, stride, config.shortcut))
                height, width, inputs = (height - 1) // stride + 1, (width - 1) // stride + 1, outputs
                self.sizes.append((height, width))
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(inputs, task.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def head(self, u: Tensor) -> Tensor:
        return self.fc(u.mean((2, 3)))

    def plain_forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of the network without any gate."""
        u = self.stem(images)
        for block in self.blocks:
            u = block(u)
        return self.head(u)

    def block_macs(self, index: int) -> tuple[int, int, int]:
        """MACs of block `index`: first convolution, second convolution, shortcut."""
        block, (height, width) = self.blocks[index], self.sizes[index]
        assert isinstance(block, Block)
        shortcut = 0
        if isinstance(block.shortcut, nn.Sequential) and isinstance(projection := block.shortcut[0], nn.Conv2d):
            shortcut = conv_macs(projection, height, width)
        return conv_macs(block.conv1, height, width), conv_macs(block.conv2, height, width), shortcut

    def stage_ends(self) -> list[Place]:
        """Where exits may be: behind the last block of each stage but the last."""
        ends = []
        for index, (block, after) in enumerate(pairwise(self.blocks)):
            assert isinstance(block, Block)
            assert isinstance(after, Block)
            if after.stride != 1 or after.extra:
                ends.append(Place(index, block.conv1.out_channels, *self.sizes[index]))
        return ends

    def ends_macs(self) -> int:
        """MACs of stem and head."""
        return conv_macs(self.conv1, self.task.height, self.task.width) + linear_macs(self.fc)

    def total_macs(self) -> int:
        """MACs of one image through the plain network."""
        return self.ends_macs() + sum(sum(self.block_macs(i)) for i in range(len(self.blocks)))


class PlainResNet(ResNet):
    """The ungated network as a classifier: logits (B, classes) of normalised images."""

    def forward(self, images: Tensor) -> Tensor:
        return self.plain_forward(images)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution with its batch norm's running statistics folded in."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
