"""Side branches that answer from a network's intermediate features: attention, classifiers, gates; their dimensions.

Attention and bottleneck classifiers follow Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks
Framework Towards Compact and Efficient Models", NeurIPS, 2019. The two-convolution head follows Huang, Chen, Li, Wu,
van der Maaten and Weinberger, "Multi-Scale Dense Networks for Resource Efficient Image Classification", ICLR, 2018; the
convolutional exit gate Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018. Differs: maps of any
size work. Heads that read all places before them follow Evci, Dumoulin, Larochelle and Mozer, "Head2Toe: Utilizing
Intermediate Representations for Better Transfer Learning", ICML, 2022. Differs: nothing is selected.

Shapes: B images, A of them still in, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, conv_output, linear_macs
from spaces.contract.exit_places import Place, numbered
from spaces.contract.space import SHARE, WARMTH, WEIGHT, choice, flag, real

CONV_EXITS = ("scan", "msdnet", "light")  # that a study may draw unasked
POOLED_EXITS = ("light", "linear")  # whose heads read pooled features
_MAPS = (*CONV_EXITS, "linear")
_ANY = (*_MAPS, "cls")


@dataclass(frozen=True, kw_only=True)
class ExitConfig:
    """Which exits a network has, what decides them, and how they are taught."""

    exits: str = choice("none", *_MAPS, searched=False, doc="side branches that answer early")
    exit_places: str = choice(
        "all", "early", "late", accepts=numbered, when={"exits": _ANY}, searched=False,
        doc="which ends of stages have one; or their numbers from 0 on, such as 0+2",
    )  # fmt: skip
    attention: str = choice(
        "full", "depthwise", "reduced", "none", default="depthwise", when={"exits": ("scan",)},
        doc="map that an exit multiplies its features with; full is published, and expensive",
    )  # fmt: skip
    exit_decision: str = choice(
        "confidence", "gate", when={"exits": _ANY}, searched=False,
        doc="leave by the answer's confidence (thresholds are searched after training), or by a learned gate",
    )  # fmt: skip
    exit_reads: str = choice(
        "own", "all", when={"exits": POOLED_EXITS, "exit_decision": ("confidence",)}, searched=False, later=True,
        doc="own: pooled features of its place; all: also those of all places before it, nearly free",
    )  # fmt: skip
    exit_gate: str = choice(
        "light", "conv", when={"exits": _MAPS, "exit_decision": ("gate",)}, searched=False,
        doc="pooled features and a hidden layer, or two convolutions as published, more expensive than the network",
    )  # fmt: skip
    exit_target: float = real(
        0.0,
        0.6,
        within=SHARE,
        default=0.3,
        when={"exit_decision": ("gate",)},
        doc="share of images that should leave at each exit",
    )
    exit_loss_weight: float = real(
        0.3,
        30.0,
        within=WEIGHT,
        default=1.0,
        log=True,
        when={"exit_decision": ("gate",)},
        searched=False,
        doc="of that target",
    )
    shallow_weight: float = real(
        0.1, 0.3, within=WEIGHT, default=0.2, when={"exit_decision": ("gate",)}, searched=False,
        doc="of each exit's own cross-entropy over all images",
    )  # fmt: skip
    alpha_kd: float = real(
        0.0, 0.9, within=SHARE, default=0.5, when={"exits": _ANY, "exit_decision": ("confidence",)},
        doc="share of an exit's loss that is distillation from the teacher",
    )  # fmt: skip
    kd_temperature: float = real(
        1.0, 8.0, within=WARMTH, default=3.0, when={"exits": _ANY, "exit_decision": ("confidence",)}, searched=False,
        doc="of distillation",
    )  # fmt: skip
    teacher: str = choice(
        "deepest", "ensemble", when={"exits": _ANY, "exit_decision": ("confidence",)},
        searched=False, doc="whose answers exits learn",
    )  # fmt: skip
    feature_weight: float = real(
        1e-7, 1e-2, within=WEIGHT, default=6.4e-5, log=True,
        when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="of the distance between an exit's features and the deepest ones (published sum: 5e-7)",
    )  # fmt: skip
    feature_form: str = choice(
        "batch_mean", "code_sum", when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="mean over images, or the published sum that grows with the batch",
    )  # fmt: skip
    detach_trunk: bool = flag(
        default=False,
        when={"exits": _ANY},
        searched=False,
        doc="exits learn without changing the network before them",
    )

    @property
    def has_exits(self) -> bool:
        return self.exits != "none"

    @property
    def reads_all(self) -> bool:
        """Whether an exit reads the features of the places before it too."""
        pooled = self.exits in POOLED_EXITS and self.exit_decision == "confidence"
        return self.exit_reads == "all" and pooled

    @property
    def head_filters(self) -> int:
        """Filters of the heads' bottlenecks, at most; families with a width multiplier scale them."""
        return 128


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
    """Attention, three bottleneck convolutions down to a 4x4 map (up to 7x7 from odd sizes), pooled, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.attention = None if config.attention == "none" else Attention(config.attention, place)
        width = min(config.head_filters, features)
        steps = (max(1, place.height // 4), max(1, place.width // 4))
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
        self.fc = nn.Linear(width, classes)
        self.own_macs, size = linear_macs(self.fc), (place.height, place.width)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            size = (conv_output(size[0], conv), conv_output(size[1], conv))
            self.own_macs += conv_macs(conv, *size)
        _kaiming(self)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        feature = u.mean((2, 3))
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


class ExitGate(nn.Module):
    """A logit for staying, from the features before an exit. Starts open: at first nearly everybody stays."""

    def __init__(self, kind: str, place: Place, tokens: bool) -> None:
        super().__init__()
        self.conv = kind == "conv" and not tokens
        self.tokens = tokens
        channels = place.channels
        if self.conv:
            self.convs = nn.ModuleList(
                [nn.Conv2d(channels, 128, 3, 1, 1), nn.Conv2d(128, 128, 3, 1, 1)]
            )
            self.norms = nn.ModuleList([nn.BatchNorm2d(128), nn.BatchNorm2d(128)])
            self.fc = nn.Linear(128, 1)
            area = (place.height, place.width)
            self.own_macs = 128 + sum(
                conv_macs(c, *area) for c in self.convs if isinstance(c, nn.Conv2d)
            )
        else:
            self.hidden = nn.Linear(channels, 16)
            self.fc = nn.Linear(16, 1)
            self.own_macs = linear_macs(self.hidden) + linear_macs(self.fc)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.constant_(self.fc.bias, 1.0)

    def forward(self, u: Tensor) -> Tensor:
        """(A, 1) logits, at least float32."""
        if self.conv:
            for conv, norm in zip(self.convs, self.norms, strict=True):
                u = F.relu(norm(conv(u)))
            logit = self.fc(u.mean((2, 3)))
        else:
            logit = self.fc(F.relu(self.hidden(u[:, 0] if self.tokens else u.mean((2, 3)))))
        return logit.float() if logit.dtype in (torch.float16, torch.bfloat16) else logit


def _kaiming(module: nn.Module) -> None:
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu")
            if one.bias is not None:
                nn.init.zeros_(one.bias)
