"""Side branches that answer from a network's intermediate features: attention and classifiers.

Attention and bottleneck classifiers follow Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks
Framework Towards Compact and Efficient Models", NeurIPS, 2019. The two-convolution head follows Huang, Chen, Li, Wu,
van der Maaten and Weinberger, "Multi-Scale Dense Networks for Resource Efficient Image Classification", ICLR, 2018.
Differs: maps of any size work, and their means are taken over the whole map unless `msdnet_pool` says otherwise. Heads
that read all places before them follow Evci, Dumoulin, Larochelle and Mozer, "Head2Toe: Utilizing Intermediate
Representations for Better Transfer Learning", ICML, 2022. Differs: nothing is selected.

Shapes: B images, A of them still in, C classes, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, conv_output, linear_macs
from spaces.contract.exit_places import Place
from spaces.exits.exit_config import ExitConfig


class Attention(nn.Module):
    """A map in (0, 1) of the features' own shape: down by 2, up by 2, sigmoid."""

    def __init__(self, kind: str, place: Place) -> None:
        super().__init__()
        channels = place.channels
        inner = max(1, channels // 4) if kind == "reduced" else channels
        self.place, self.kind = place, kind
        if kind == "depthwise":
            self.down = nn.Sequential(
                nn.Conv2d(channels, channels, 3, 2, 1, groups=channels),
                nn.Conv2d(channels, channels, 1),
            )
            self.up: nn.ConvTranspose2d | None = None
        else:
            self.down = nn.Sequential(nn.Conv2d(channels, inner, 3, 2, 1))
            self.up = nn.ConvTranspose2d(inner, channels, 4, 2, 1)
        self.norm = nn.BatchNorm2d(inner)
        self.up_norm = nn.BatchNorm2d(channels)

    def forward(self, u: Tensor) -> Tensor:
        height, width = u.shape[2:]
        small = F.relu(self.norm(self.down(u)))
        if self.up is not None:
            large = self.up(small)[:, :, :height, :width]  # an odd size comes back one larger
        else:
            large = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        return torch.sigmoid(self.up_norm(large))

    def macs(self) -> int:
        height, width = ((n - 1) // 2 + 1 for n in (self.place.height, self.place.width))
        total = sum(
            conv_macs(layer, height, width) for layer in self.down if isinstance(layer, nn.Conv2d)
        )
        if self.up is not None:
            total += height * width * 16 * self.up.in_channels * self.up.out_channels
        return total


class ScanHead(nn.Module):
    """Attention, three bottleneck convolutions down to a 4x4 map (or 7x7, up to 7x7 from odd sizes), pooled, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.attention = None if config.attention == "none" else Attention(config.attention, place)
        width = min(config.head_filters, features)
        side = config.head_side
        steps = (max(1, place.height // side), max(1, place.width // side))
        self.reduce = nn.Conv2d(place.channels, width, 1)
        self.shrink = nn.Conv2d(width, width, steps, steps)
        self.expand = nn.Conv2d(width, features, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (width, width, features))
        self.fc = nn.Linear(features, classes)
        small = (conv_output(place.height, self.shrink), conv_output(place.width, self.shrink, 1))
        self.own_macs = (
            conv_macs(self.reduce, place.height, place.width)
            + conv_macs(self.shrink, *small)
            + conv_macs(self.expand, *small)
            + linear_macs(self.fc)
            + (self.attention.macs() if self.attention is not None else 0)
        )
        _kaiming(self)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if self.attention is not None:
            u = u * self.attention(u)
        for conv, norm in zip((self.reduce, self.shrink, self.expand), self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        feature = u.mean((2, 3))
        return self.fc(feature), feature


class Pool(nn.Module):
    """A map (B, C, H, W) as features: means over all of it (B, C), or over squares of `side` (B, C x squares)."""

    def __init__(self, side: int | None, height: int, width: int) -> None:
        super().__init__()
        self.window = None if side is None else (min(side, height), min(side, width))
        self.places = (
            1 if self.window is None else (height // self.window[0]) * (width // self.window[1])
        )

    def forward(self, u: Tensor) -> Tensor:
        if self.window is None:
            return u.mean((2, 3))
        return F.avg_pool2d(u, self.window).flatten(1)


class MsdHead(nn.Module):
    """Two 3x3 convolutions with stride 2 and 128 filters, pooled, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        width = min(config.head_filters, max(features, 16))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(place.channels, width, 3, 2, 1, bias=False),
                nn.Conv2d(width, width, 3, 2, 1, bias=False),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.own_macs, size = 0, (place.height, place.width)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            size = (conv_output(size[0], conv), conv_output(size[1], conv))
            self.own_macs += conv_macs(conv, *size)
        self.pool = Pool(2 if config.msdnet_pool == "squares" else None, *size)
        self.fc = nn.Linear(width * self.pool.places, classes)
        self.own_macs += linear_macs(self.fc)
        _kaiming(self)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        feature = self.pool(u)
        return self.fc(feature), feature


class LightHead(nn.Module):
    """Pooled features, linear: next to free."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(place.channels, classes)
        self.own_macs = linear_macs(self.fc)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        feature = u.mean((2, 3))
        return self.fc(feature), feature


class LinearHead(nn.Module):
    """A linear probe: pooled features at mean 0 and deviation 1, linear.

    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop, 2017. Differs:
    features are pooled, not taken as they are, and brought to mean 0 and deviation 1.
    """

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(place.channels, affine=False)
        self.fc = nn.Linear(place.channels, classes)
        self.own_macs = linear_macs(self.fc)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.norm(u.mean((2, 3)))
        return self.fc(feature), feature


class ClsHead(nn.Module):
    """For tokens (B, N, D): the class token, layer norm, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(place.channels)
        self.fc = nn.Linear(place.channels, classes)
        self.own_macs = linear_macs(self.fc)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.norm(u[:, 0])
        return self.fc(feature), feature


HEADS = {
    "scan": ScanHead,
    "msdnet": MsdHead,
    "light": LightHead,
    "linear": LinearHead,
    "cls": ClsHead,
}


def _kaiming(module: nn.Module) -> None:
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu")
            if one.bias is not None:
                nn.init.zeros_(one.bias)
