"""Plain convolutional networks as a stem and a few sections: backbones of multi-exit networks.

ResNet-18 to -152: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR, 2016. VGG-16 and -19:
Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR, 2015. Wide ResNets:
Zagoruyko and Komodakis, "Wide Residual Networks", BMVC, 2016.
Differs: all start with a 3x3 convolution of stride 1 and without pooling, for small images, unless a ResNet's `stem`
says otherwise; any number of channels and any image size work; a width multiplier scales every layer. VGGs have batch
norm, and a global average pool and one linear layer in place of three; their first two blocks make one section, so
that those before the exits cost much the same. Wide ResNets of 20 and 44 layers have 6n + 2 layers, not the 6n + 4 of
the paper: they are CIFAR ResNets of 3 and 7 blocks a stage with 8 times the channels, and keep the activation after
the sum, so that what an exit reads is what the next section reads.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.backbones.bottleneck import EXPANSION, Bottleneck
from spaces.backbones.resnet import Block
from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.space import choice
from spaces.contract.task import Task

RESNETS = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
VGGS = {"vgg16_bn": (2, 2, 3, 3, 3), "vgg19_bn": (2, 2, 4, 4, 4)}
WIDE_RESNETS = {"wrn20_8": 3, "wrn44_8": 7}
BACKBONES = (*RESNETS, *VGGS, *WIDE_RESNETS)


@dataclass(frozen=True, kw_only=True)
class SectionedConfig:
    """Topology and size of a baseline in sections."""

    backbone: str = choice(
        *BACKBONES, default="resnet18", doc="residual, plain (VGG) or wide residual network"
    )
    stem: str = choice(
        "cifar", "imagenet", when={"backbone": tuple(RESNETS)}, searched=False, later=True,
        doc="3x3 convolution, or 7x7 with stride 2 and max pooling, which leave a sixteenth of the pixels",
    )  # fmt: skip
    width: float = choice(
        0.125, 0.25, 0.5, 1.0, default=0.25, searched=False, doc="multiplies all channels"
    )

    def scaled(self, channels: int) -> int:
        """Channels of a layer that has `channels` of them at width 1: a multiple of 8."""
        return max(8, 8 * round(self.width * channels / 8))


class ConvNorm(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    stride = 1

    def __init__(self, inputs: int, outputs: int) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class LargeStem(nn.Sequential):
    """7x7 convolution, batch norm, ReLU, max pooling: a sixteenth of the pixels."""

    stride = 2  # of the convolution, and of the pooling

    def __init__(self, inputs: int, outputs: int) -> None:
        conv = nn.Conv2d(inputs, outputs, 7, 2, 3, bias=False)
        pool = nn.MaxPool2d(3, 2, 1)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), pool)


@dataclass(frozen=True)
class Section:
    """A chain of units, each with a `stride`, and how many channels come out of it."""

    units: Sequence[nn.Module]
    channels: int


class SectionedNet(nn.Module):
    """A baseline: a stem, sections, a global average pool and a linear layer.

    `places[s]` is the shape of what section s returns, `section_macs[s]` its MACs.
    """

    def __init__(self, config: SectionedConfig, task: Task) -> None:
        super().__init__()
        self.task = task
        stem = config.scaled(16 if config.backbone in WIDE_RESNETS else 64)
        large = config.stem == "imagenet" and config.backbone in RESNETS
        self.stem = (LargeStem if large else ConvNorm)(task.channels, stem)
        pixels = (task.height, task.width)
        size = _size_after(self.stem, pixels)
        self.stem_macs = unit_macs(self.stem, pixels, size)
        if large:
            size = _size_after(self.stem, size)
        self.places: list[Place] = []
        self.section_macs: list[int] = []
        chains = []
        for index, section in enumerate(_sections(config, stem)):
            macs = 0
            for unit in section.units:
                before, size = size, _size_after(unit, size)
                macs += unit_macs(unit, before, size)
            chains.append(nn.Sequential(*section.units))
            self.places.append(Place(index, section.channels, *size))
            self.section_macs.append(macs)
        self.sections = nn.ModuleList(chains)
        self.fc = nn.Linear(self.places[-1].channels, task.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def head(self, u: Tensor) -> Tensor:
        """(B, C, H, W) of the last section → logits (B, classes)."""
        return self.fc(u.mean((2, 3)))

    def total_macs(self) -> int:
        """MACs of one image through the baseline."""
        return self.stem_macs + sum(self.section_macs) + linear_macs(self.fc)


def unit_macs(unit: nn.Module, before: tuple[int, int], after: tuple[int, int]) -> int:
    """MACs of the convolutions of a unit that turns maps of the size `before` into maps of the size `after`."""
    convs = [module for module in unit.modules() if isinstance(module, nn.Conv2d)]
    early = [unit.conv1] if isinstance(unit, Bottleneck) else []
    return sum(conv_macs(conv, *(before if conv in early else after)) for conv in convs)


def _size_after(unit: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    stride = unit.stride
    assert isinstance(stride, int)
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def _sections(config: SectionedConfig, stem: int) -> list[Section]:
    name = config.backbone
    if name not in BACKBONES:
        raise ValueError(f"backbone: {name} is not one of {', '.join(BACKBONES)}")
    if name in VGGS:
        return _vgg(VGGS[name], config, stem)
    if name in WIDE_RESNETS:
        return _residual(
            (WIDE_RESNETS[name],) * 3, [config.scaled(8 * c) for c in (16, 32, 64)], stem
        )
    widths = [config.scaled(c) for c in (64, 128, 256, 512)]
    return _residual(RESNETS[name], widths, stem, bottleneck=name != "resnet18")


def _residual(
    blocks: Sequence[int], widths: Sequence[int], inputs: int, *, bottleneck: bool = False
) -> list[Section]:
    """A section a stage; all stages but the first halve the map."""
    sections = []
    for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True)):
        units: list[nn.Module] = []
        for position in range(count):
            stride = 2 if stage and not position else 1
            if bottleneck:
                units.append(Bottleneck(inputs, filters, stride, "3x3"))
                inputs = EXPANSION * filters
            else:
                units.append(Block(inputs, filters, stride, "B"))
                inputs = filters
        sections.append(Section(units, inputs))
    return sections


def _vgg(blocks: Sequence[int], config: SectionedConfig, stem: int) -> list[Section]:
    """Blocks of convolutions with poolings between; the stem is the first convolution."""
    chains: list[list[nn.Module]] = []
    widths = [config.scaled(c) for c in (64, 128, 256, 512, 512)]
    inputs = stem
    for block, (count, filters) in enumerate(zip(blocks, widths, strict=True)):
        # a single pixel stays one
        units: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if block else []
        for _ in range(count if block else count - 1):
            units.append(ConvNorm(inputs, filters))
            inputs = filters
        chains.append(units)
    chains[:2] = [chains[0] + chains[1]]
    return [Section(units, filters) for units, filters in zip(chains, widths[1:], strict=True)]
