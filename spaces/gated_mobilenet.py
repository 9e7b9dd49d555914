"""Family `gated_mobilenet`: MobileNetV2 whose gates skip units, expanded channels of a unit, or both, image by image.

Backbone: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR,
2018. Gates: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018, and Ehteshami
Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks", KI, 2020, which gate ResNets;
here layer gates stand on units that are added to their input, channel gates on every unit that expands.

Shapes: B samples, U units of a gate, E expanded channels of a unit, N of them open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.block_execution import SMALLEST_GROUP
from spaces.compute import linear_macs
from spaces.family import Family
from spaces.gated_blocks import (
    BlockGates,
    GatedBlocks,
    GatedConfig,
    Read,
    as_maps,
    counted,
    forced_open,
    open_rows,
    scattered,
)
from spaces.mobilenet import Bottleneck, MobileNet, MobileNetConfig, divisible
from spaces.net import Output
from spaces.policies import Decision, Policy
from spaces.recipe import Recipe
from spaces.resnet import folded
from spaces.space import choice
from spaces.task import Task
from spaces.walk import Walk

_CHANNEL = ("channel", "joint")
Found = dict[str, Decision]


@dataclass(frozen=True, kw_only=True)
class GatedMobileNetConfig(GatedConfig, MobileNetConfig):
    """A gated MobileNetV2. Channel gates guard the expanded width, which is the inner one of a unit."""

    channel_where: str = choice("inner", default="inner", when={"granularity": _CHANNEL}, doc="expanded channels")
    channel_group: int = choice(
        1, 2, 4, 8, 16, default=8, when={"granularity": _CHANNEL}, doc="expanded channels that one gate opens together"
    )

    @property
    def head_filters(self) -> int:
        return divisible(super().head_filters * self.width)


class GatedMobileNet(MobileNet, GatedBlocks):
    """A MobileNetV2 with gates and, where asked for, exits behind its stages.

    Parameters other than `gate_heads.*` and `exit_*` carry the names of the plain MobileNetV2.
    """

    def __init__(self, config: GatedMobileNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.add_gates(config, self._block_gates(config))
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        self.add_exits(config, self.stage_ends(), self.fc.in_features, on=config.gated)

    def _block_gates(self, config: GatedMobileNetConfig) -> Iterator[BlockGates]:
        blocks = self.units
        ungated = forced_open(config, [unit.identity for unit in blocks])
        for index, unit in enumerate(blocks):
            layer = int(config.gates_layers and unit.identity)
            inner = config.inner_units(unit.expanded) if unit.expands else 0
            kinds = {kind: n for kind, n in (("layer", layer), ("inner", inner)) if n}
            if config.gated and kinds and index not in ungated:
                inputs = blocks[0].inputs if config.gate_source == "stem" else unit.inputs
                yield BlockGates(index, inputs, kinds, dict.fromkeys(kinds, self.unit_macs(index)))

    def forward(self, images: Tensor, policy: Policy | None = None, *, compact: bool = False) -> Output:
        walk = self.begin(images, policy, compact=compact)
        u = self.features[0](images)
        walk.pay(self.stem_macs())
        if self.config.gate_source == "stem":
            walk.memory["stem"] = u
        run = self._compact if compact else self._masked
        for index, unit in enumerate(self.units):
            u, found = run(index, unit, u, walk.memory.get("stem", u), walk)
            walk.pay(self._cost(index, found, walk.policy))
            walk.record(found.values())
            u = self.visit(index, u, walk)
            if walk.empty:
                break
        else:
            walk.pay(self.last_macs())
            u = self.features[-1](u)
        return self.finish(u, walk)

    def _cost(self, index: int, found: Found, policy: Policy) -> Tensor | float:
        """MACs (B,) or (1,) that each sample pays in a unit, gates included: linear in its open channels."""
        always, when_open = self.gate_macs(index, policy)
        share = counted(found["inner"]) / found["inner"].gate.units if "inner" in found else 1.0
        return always + counted(found.get("layer")) * (share * self.unit_macs(index) + when_open)

    def _masked(self, index: int, unit: Bottleneck, u: Tensor, source: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The unit computed for every sample and channel, multiplied by the decisions."""
        read: Read = {}
        found = {}
        for kind in ("layer", "inner"):
            decision = self.decide(index, kind, source, walk, read)
            if decision is not None:
                found[kind] = decision
        residual = unit.residual(u, _channel_mask(found.get("inner"), unit))
        if "layer" in found:
            residual = residual * as_maps(found["layer"].z_BU, residual)
        return (u + residual if unit.identity else residual), found

    def _compact(self, index: int, unit: Bottleneck, u: Tensor, source: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The unit computed only for samples and channels that are open.

        Channel decisions of skipped samples read 0.
        """
        read: Read = {}
        layer = self.decide(index, "layer", source, walk, read)
        found = {} if layer is None else {"layer": layer}
        rows = open_rows(layer, len(u))
        if rows is not None and not len(rows):
            if gate := self.gate(index, "inner"):
                found["inner"] = Decision(gate, u.new_zeros(1, gate.units, dtype=torch.float32), None)
            return u, found
        if rows is not None:
            source = source[rows]
            read = {trunk: None if part is None else part[rows] for trunk, part in read.items()}
        inner = self.decide(index, "inner", source, walk, read, rows)
        if inner is not None:
            found["inner"] = scattered(inner, rows, len(u))
        residual = compact_residual(unit, u if rows is None else u[rows], _channel_mask(inner, unit))
        if layer is not None:
            z_BU = layer.z_BU if rows is None or len(layer.z_BU) == 1 else layer.z_BU[rows]
            residual = residual * as_maps(z_BU, residual)
        if rows is not None:
            return u.index_add(0, rows, residual), found
        return (u + residual if unit.identity else residual), found


def compact_residual(unit: Bottleneck, u: Tensor, mask: Tensor | None) -> Tensor:
    """The unit's residual of u, channels that the mask (B or 1, E) closes left out of all three convolutions."""
    if mask is None:
        return unit.residual(u)
    patterns, group_B = mask.expand(len(u), -1).unique(dim=0, return_inverse=True)
    if len(patterns) == 1:
        return _gathered(unit, u, patterns[0])
    parts, places = [], []
    for group, pattern_E in enumerate(patterns):
        rows = (group_B == group).nonzero()[:, 0]
        many = len(rows) >= SMALLEST_GROUP
        parts.append(_gathered(unit, u[rows], pattern_E) if many else unit.residual(u[rows], pattern_E[None]))
        places.append(rows)
    return torch.cat(parts)[torch.cat(places).argsort()]


def _gathered(unit: Bottleneck, u: Tensor, mask_E: Tensor) -> Tensor:
    """One mask for all samples: convolutions of gathered channels, batch norm folded in.

    With no channel open what remains is the last batch norm's shift, not zero.
    """
    (weight1, bias1), (weight2, bias2), (weight3, bias3) = (folded(*pair) for pair in unit.convolutions())
    open_N = mask_E.nonzero()[:, 0]
    if not len(open_N):
        height, width = ((n - 1) // unit.stride + 1 for n in u.shape[2:])
        return bias3[None, :, None, None].expand(len(u), -1, height, width).to(u.dtype)
    h = F.relu6(F.conv2d(u, weight1[open_N], bias1[open_N]))
    h = F.relu6(F.conv2d(h, weight2[open_N], bias2[open_N], unit.stride, 1, groups=len(open_N)))
    return F.conv2d(h, weight3[:, open_N] * mask_E[open_N].to(weight3.dtype)[None, :, None, None], bias3)


def _channel_mask(decision: Decision | None, unit: Bottleneck) -> Tensor | None:
    """(B, E) one value an expanded channel from one a group."""
    if decision is None:
        return None
    return decision.z_BU.repeat_interleave(unit.expanded // decision.gate.units, dim=1)


FAMILY = Family(
    name="gated_mobilenet",
    doc="MobileNetV2 whose gates skip units or expanded channels, image by image",
    config=GatedMobileNetConfig,
    recipe=Recipe,
    build=GatedMobileNet,
    size_dimensions=("width", "depth"),
    ladder={"width": (0.25, 0.5, 0.75, 1.0)},
    plain_dimensions=("stem",),
    size_words={"depth": "depth {}", "width": "x{}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
)
