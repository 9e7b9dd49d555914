"""Family `gated_mobilenet`: MobileNetV2 whose gates skip units, expanded channels of a unit, or both, image by image.

Backbone: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR,
2018. Gates: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018, and Ehteshami
Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks", KI, 2020, which gate ResNets;
here layer gates stand on units that are added to their input, channel gates on every unit that expands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.backbones.mobilenet import Bottleneck, MobileNet, MobileNetConfig, divisible
from spaces.contract.family import Family
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice
from spaces.contract.task import Task
from spaces.gates.block_execution import compact_residual
from spaces.gates.closable import Closable
from spaces.gates.gated_blocks import GatedConfig
from spaces.gates.gated_chain import GatedChain, weighed

_CHANNEL = ("channel", "joint")


@dataclass(frozen=True, kw_only=True)
class GatedMobileNetConfig(GatedConfig, MobileNetConfig):
    """A gated MobileNetV2. Channel gates guard the expanded width, which is the inner one of a unit."""

    channel_where: str = choice(
        "inner", default="inner", when={"granularity": _CHANNEL}, doc="expanded channels"
    )
    channel_group: int = choice(
        1,
        2,
        4,
        8,
        16,
        default=8,
        when={"granularity": _CHANNEL},
        doc="expanded channels that one gate opens together",
    )

    @property
    def head_filters(self) -> int:
        return divisible(super().head_filters * self.width)


class GatedMobileNet(MobileNet, GatedChain):
    """A MobileNetV2 with gates and, where asked for, exits behind its stages.

    Parameters other than `gate_heads.*` and `exit_*` carry the names of the plain MobileNetV2.
    """

    def __init__(self, config: GatedMobileNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.add_gates_and_exits(config, self.stage_ends(), self.fc)

    def chain(self) -> list[_GatedUnit]:
        return [_GatedUnit(unit, self.unit_macs(index)) for index, unit in enumerate(self.units)]

    def first_maps(self, images: Tensor) -> Tensor:
        return self.features[0](images)

    def first_macs(self) -> int:
        return self.stem_macs()

    def last_maps(self, u: Tensor) -> Tensor:
        return self.features[-1](u)


class _GatedUnit(Closable):
    """A unit of `total_macs`; a channel gate closes expanded channels in all of its convolutions."""

    def __init__(self, unit: Bottleneck, total_macs: int) -> None:
        self.unit, self.total_macs = unit, total_macs
        self.inputs = unit.inputs
        self.identity = self.skippable = unit.identity
        self.channels = {"inner": unit.expanded} if unit.expands else {}

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        return self.unit.residual(u, *masks)

    def compact_residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        return compact_residual(self.unit, u, *masks)

    def closed(self, u: Tensor) -> Tensor:
        return u

    def open_parts(self) -> Iterable[nn.Module]:
        return [self.unit.conv]

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        run = weighed(residual(), z)
        if rows is not None:
            return u.index_add(0, rows, run)
        return u + run if self.identity else run

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> Tensor | float:
        return open_channels.get("inner", self.unit.expanded) / self.unit.expanded * self.total_macs

    def guarded_macs(self) -> dict[str, int]:
        return dict.fromkeys(("layer", "inner"), self.total_macs)


FAMILY = Family(
    name="gated_mobilenet",
    doc="MobileNetV2 whose gates skip units or expanded channels, image by image",
    config=GatedMobileNetConfig,
    recipe=Recipe,
    build=GatedMobileNet,
    size_dimensions=("width", "depth"),
    smaller_sizes={"width": (0.25, 0.5, 0.75, 1.0)},
    baseline_dimensions=("stem",),
    size_words={"depth": "depth {}", "width": "x{}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
)
