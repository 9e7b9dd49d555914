"""The bottleneck block of deep ResNets, and torchvision's weights under our names.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR, 2016. ResNet-26, the smallest with two
bottlenecks a stage: Wightman, "PyTorch Image Models", 2019. Unlike the paper, the 3x3 convolution has the stride unless
told otherwise, as in torchvision.

Shapes: B images, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import torch.nn.functional as F
from torch import Tensor, nn

BOTTLENECKS = {
    "resnet26": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}  # blocks of the stages
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; the last has EXPANSION times the filters of the others.

    The residual takes masks on the first two convolutions' filters (after batch norm and ReLU: a closed filter is zero
    for the next convolution) and on the last one's (after batch norm: a closed filter adds nothing).
    """

    activation = staticmethod(F.relu)  # between the convolutions
    summed = True  # the input is added

    def __init__(self, inputs: int, filters: int, stride: int, stride_in: str) -> None:
        super().__init__()
        self.inputs, self.outputs, self.stride = inputs, EXPANSION * filters, stride
        first, second = (1, stride) if stride_in == "3x3" else (stride, 1)
        self.conv1 = nn.Conv2d(inputs, filters, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, self.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.outputs)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != self.outputs:
            projection = nn.Conv2d(inputs, self.outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(self.outputs))

    @property
    def identity(self) -> bool:
        """Whether the shortcut returns its input."""
        return self.shortcut is None

    def convolutions(self) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The convolutions in order, each with its batch norm, by the kind of gate that guards their filters."""
        return {
            "inner": (self.conv1, self.bn1),
            "middle": (self.conv2, self.bn2),
            "outer": (self.conv3, self.bn3),
        }

    def masked_convolutions(
        self, *masks: Tensor | None
    ) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor | None]]:
        """The convolutions in order, each with its batch norm and the mask (B or 1, filters) of its filters."""
        return [(*pair, mask) for pair, mask in zip_longest(self.convolutions().values(), masks)]

    def skip(self, u: Tensor) -> Tensor:
        return u if self.shortcut is None else self.shortcut(u)

    def residual(
        self,
        u: Tensor,
        inner: Tensor | None = None,
        middle: Tensor | None = None,
        outer: Tensor | None = None,
    ) -> Tensor:
        """inner, middle, outer: masks (B or 1, filters), or None where every filter is open."""
        h = _masked(F.relu(self.bn1(self.conv1(u)), inplace=True), inner)
        h = _masked(F.relu(self.bn2(self.conv2(h)), inplace=True), middle)
        return _masked(self.bn3(self.conv3(h)), outer)

    def forward(self, u: Tensor) -> Tensor:
        return F.relu(self.skip(u) + self.residual(u), inplace=True)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet-50 or -101 under the names of ours, for stem imagenet and stride_in 3x3.

    A gated network loads it with strict=False: its gates and exits are not among them.
    """
    places = sorted({_place(name) for name in state if name.startswith("layer")})
    number = {place: index for index, place in enumerate(places)}
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("layer"):
            rest = name.split(".", 2)[2].replace("downsample.", "shortcut.")
            renamed[f"blocks.{number[_place(name)]}.{rest}"] = tensor
        else:
            renamed[name] = tensor
    return renamed


def _place(name: str) -> tuple[int, int]:
    """Stage and position of the block that a parameter such as layer3.10.conv1.weight is of."""
    stage, position, _ = name.split(".", 2)
    return int(stage.removeprefix("layer")), int(position)


def _masked(h: Tensor, mask: Tensor | None) -> Tensor:
    return h if mask is None else h * mask[:, :, None, None].to(h.dtype)
