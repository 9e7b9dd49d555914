"""The plain ResNet: backbone of gated networks and their static reference.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR, 2016. The CIFAR ResNet-(6n+2) has three
stages of two-convolution blocks and shortcut option A (subsample and pad with zeros) or B (1x1 convolution and batch
norm); ResNets of bottlenecks have four stages, and the stem for small images or that for ImageNet. All take any number
of channels, any image size and a width multiplier.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.bottleneck import BOTTLENECKS, WIDTHS, Bottleneck
from spaces.contract.compute import conv_macs, conv_output, linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.space import choice, one_of
from spaces.contract.task import Task

DEPTHS = {"resnet8": 1, "resnet14": 2, "resnet20": 3, "resnet32": 5, "resnet56": 9, "resnet110": 18}


def known(name: str) -> str:
    """The name of a backbone. Raises ValueError with those there are otherwise."""
    if name not in (*DEPTHS, *BOTTLENECKS):
        raise ValueError(f"{name} is not one of {', '.join((*DEPTHS, *BOTTLENECKS))}")
    return name


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Size, stem and shortcuts of a ResNet."""

    # networks of bottlenecks cost many times as much as the others: taken when named, never drawn unasked
    backbone: str = choice(
        *DEPTHS,
        default="resnet20",
        accepts=known,
        doc=f"depth of the residual network; also {', '.join(BOTTLENECKS)}",
    )
    width: float = choice(
        0.25, 0.5, 0.75, 1.0, 1.5, 2.0, default=1.0, searched=False, doc="multiplies the channels"
    )
    shortcut: str = choice(
        "A", "B", default="B", accepts=one_of("A", "B", "none"),
        when={"backbone": tuple(DEPTHS)}, searched=False,
        doc="where the shape changes: zero-padding, or 1x1 convolution; none: no block adds its input to its output",
    )  # fmt: skip
    stem: str = choice(
        "cifar", "imagenet", default="cifar", when={"backbone": tuple(BOTTLENECKS)}, searched=False,
        doc="3x3 convolution, or 7x7 with stride 2 and max pooling, which leave a sixteenth of the pixels",
    )  # fmt: skip
    stride_in: str = choice(
        "3x3", "1x1", default="3x3", when={"backbone": tuple(BOTTLENECKS)}, searched=False,
        doc="the convolution of a bottleneck that halves the map: today's, or the first as published",
    )  # fmt: skip

    @property
    def has_bottlenecks(self) -> bool:
        return self.backbone in BOTTLENECKS


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut: relu(skip(u) + residual(u)), or without one: relu(residual(u)).

    The residual takes masks on the first convolution's filters (after batch norm and ReLU: a closed filter is zero
    for the second convolution) and on the last one's (after batch norm: a closed filter adds nothing).
    """

    activation = staticmethod(F.relu)  # between the convolutions

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.inputs, self.outputs, self.stride = inputs, outputs, stride
        self.extra = outputs - inputs
        self.summed = shortcut != "none"
        self.shortcut: nn.Module | None = None
        if shortcut == "B" and (stride != 1 or self.extra):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    @property
    def identity(self) -> bool:
        """Whether the output has the shape of the input, which a shortcut then returns as it is."""
        return self.stride == 1 and not self.extra

    def convolutions(self) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The convolutions in order, each with its batch norm, by the kind of gate that guards their filters."""
        return {"inner": (self.conv1, self.bn1), "outer": (self.conv2, self.bn2)}

    def masked_convolutions(
        self, *masks: Tensor | None
    ) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor | None]]:
        """The convolutions in order, each with its batch norm and the mask (B or 1, filters) of its filters."""
        return [(*pair, mask) for pair, mask in zip_longest(self.convolutions().values(), masks)]

    def skip(self, u: Tensor) -> Tensor:
        return skip_path(u, self.shortcut, self.stride, self.extra)

    def residual(
        self, u: Tensor, inner: Tensor | None = None, outer: Tensor | None = None
    ) -> Tensor:
        """inner, outer: masks (B or 1, filters), or None where every filter is open."""
        h = F.relu(self.bn1(self.conv1(u)), inplace=True)
        if inner is not None:
            h = h * inner[:, :, None, None].to(h.dtype)
        r = self.bn2(self.conv2(h))
        return r if outer is None else r * outer[:, :, None, None].to(r.dtype)

    def forward(self, u: Tensor) -> Tensor:
        r = self.residual(u)
        return F.relu(self.skip(u) + r if self.summed else r, inplace=True)


class ResNet(nn.Module):
    """A ResNet for a task; `sizes[l]` is the (height, width) of block l's output, `stem_size` of the stem's."""

    def __init__(self, config: ResNetConfig, task: Task) -> None:
        super().__init__()
        self.task = task
        self.pools = config.has_bottlenecks and config.stem == "imagenet"
        filters = _widths(config)[0]
        kernel, stride, padding = (7, 2, 3) if self.pools else (3, 1, 1)
        self.conv1 = nn.Conv2d(task.channels, filters, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.blocks = nn.ModuleList(_blocks(config, filters))
        self.stem_size = size = (task.height, task.width)
        if self.pools:
            self.stem_size = size = _halved(task.height, 4), _halved(task.width, 4)
        self.sizes: list[tuple[int, int]] = []
        for index in range(len(self.blocks)):
            stride = self.block(index).stride
            size = _halved(size[0], stride), _halved(size[1], stride)
            self.sizes.append(size)
        self.fc = nn.Linear(self.block(-1).outputs, task.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def block(self, index: int) -> Block | Bottleneck:
        block = self.blocks[index]
        assert isinstance(block, (Block, Bottleneck))
        return block

    def stem(self, images: Tensor) -> Tensor:
        u = F.relu(self.bn1(self.conv1(images)), inplace=True)
        return F.max_pool2d(u, 3, 2, 1) if self.pools else u

    def head(self, u: Tensor) -> Tensor:
        return self.fc(u.mean((2, 3)))

    def input_size(self, index: int) -> tuple[int, int]:
        """Height and width of what block `index` gets."""
        return self.sizes[index - 1] if index else self.stem_size

    def block_macs(self, index: int) -> tuple[int, ...]:
        """MACs of block `index`: those of its convolutions in order, and last the shortcut's."""
        block, macs = self.block(index), []
        height, width = self.input_size(index)
        for conv, _ in block.convolutions().values():
            height, width = conv_output(height, conv), conv_output(width, conv, 1)
            macs.append(conv_macs(conv, height, width))
        shortcut = 0
        if isinstance(block.shortcut, nn.Sequential) and isinstance(
            projection := block.shortcut[0], nn.Conv2d
        ):
            shortcut = conv_macs(projection, height, width)
        return *macs, shortcut

    def stage_ends(self) -> list[Place]:
        """Where exits may be: behind the last block of each stage but the last."""
        ends = [
            index
            for index, after in pairwise(range(len(self.blocks)))
            if not self.block(after).identity
        ]
        return [Place(index, self.block(index).outputs, *self.sizes[index]) for index in ends]

    def stem_macs(self) -> int:
        size = (
            conv_output(self.task.height, self.conv1),
            conv_output(self.task.width, self.conv1, 1),
        )
        return conv_macs(self.conv1, *size)

    def ends_macs(self) -> int:
        """MACs of stem and head."""
        return self.stem_macs() + linear_macs(self.fc)

    def total_macs(self) -> int:
        """MACs of one image through the baseline."""
        return self.ends_macs() + sum(sum(self.block_macs(i)) for i in range(len(self.blocks)))


def _widths(config: ResNetConfig) -> list[int]:
    """Filters of the stages' inner convolutions."""
    return [
        max(1, round(w * config.width))
        for w in (WIDTHS if config.has_bottlenecks else (16, 32, 64))
    ]


def _blocks(config: ResNetConfig, inputs: int) -> Iterator[Block | Bottleneck]:
    """The blocks behind a stem of `inputs` channels; all stages but the first halve the map."""
    widths = _widths(config)
    counts = BOTTLENECKS.get(config.backbone) or (DEPTHS[config.backbone],) * len(widths)
    for stage, (count, filters) in enumerate(zip(counts, widths, strict=True)):
        for position in range(count):
            stride = 2 if stage and not position else 1
            block: Block | Bottleneck
            if config.has_bottlenecks:
                block = Bottleneck(inputs, filters, stride, config.stride_in)
            else:
                block = Block(inputs, filters, stride, config.shortcut)
            inputs = block.outputs
            yield block


def _halved(size: int, stride: int) -> int:
    return (size - 1) // stride + 1


def skip_path(u: Tensor, shortcut: nn.Module | None, stride: int, extra: int) -> Tensor:
    """What a block's residual is added to: u through the shortcut; without one u itself, or where the shape changes
    u's every `stride`-th pixel and `extra` channels of zeros.
    """
    if shortcut is not None:
        return shortcut(u)
    if stride == 1 and not extra:
        return u
    return F.pad(u[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, extra))


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution with its batch norm's running statistics folded in."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
