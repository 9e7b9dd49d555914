"""Family `gated_resnet`: ResNets whose gates skip blocks, filters of a block, or both, image by image.

Layer gates: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018. Joint layer and
channel gates: Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks",
KI, 2020. Output groups and data-independent gates: Herrmann, Bowen and Zabih, "Deep networks with probabilistic
gates", 2018. A closed block keeps its shortcut and the ReLU after the sum. In bottlenecks the inner filters are those
of the first two convolutions, each with a gate of its own: "inner" and "middle".

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.block_execution import compact_residual
from spaces.bottleneck import Bottleneck, from_torchvision
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
from spaces.net import Output
from spaces.policies import Decision, Policy
from spaces.recipe import Recipe
from spaces.resnet import Block, ResNet, ResNetConfig
from spaces.space import choice
from spaces.sparsity import AIG50, EACH
from spaces.task import Task
from spaces.walk import Walk

AnyBlock = Block | Bottleneck
Found = dict[str, Decision]


@dataclass(frozen=True, kw_only=True)
class GatedResNetConfig(GatedConfig, ResNetConfig):
    """A gated ResNet; `gated=False` is the plain net of the same size, a rung of the static ladder."""

    target_vector: str = choice(
        "constant", "ramp_up", "ramp_down", "aig50", default="constant", when={"loss": EACH}, searched=False,
        doc="one target for all gates, rising or falling with depth, or the published one of resnet50's layer gates",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.published_targets and (self.backbone, self.granularity) != ("resnet50", "layer"):
            raise ValueError(
                "target_vector: aig50 is of the layer gates of resnet50, not of the "
                f"{self.granularity} gates of {self.backbone}; choose ramp_up, ramp_down or constant"
            )

    @property
    def published_targets(self) -> bool:
        """Whether each block has the target that is published for it; where that is 1 it has no gate."""
        return self.loss in EACH and self.target_vector == "aig50"


class GatedResNet(ResNet, GatedBlocks):
    """A ResNet with gates and, where asked for, exits behind its stages.

    Parameters other than `gate_heads.*` and `exit_*` carry the names of the plain ResNet.
    """

    config: GatedResNetConfig

    def __init__(self, config: GatedResNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.add_gates(config, self._block_gates(config))
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        self.add_exits(config, self.stage_ends(), self.fc.in_features, on=config.gated)

    def _block_gates(self, config: GatedResNetConfig) -> Iterator[BlockGates]:
        blocks = [self.block(index) for index in range(len(self.blocks))]
        ungated = forced_open(config, [block.identity for block in blocks])
        if config.published_targets:
            ungated |= {index for index, target in enumerate(AIG50) if target == 1}
        for index, block in enumerate(blocks):
            units = _units(config, block)
            if config.gated and units and index not in ungated:
                inputs = self.conv1.out_channels if config.gate_source == "stem" else block.inputs
                yield BlockGates(index, inputs, units, self._guarded(index))

    def _guarded(self, index: int) -> dict[str, int]:
        """MACs that the gates of each kind guard: of filters, those that make them and those that read them."""
        *convs, _ = self.block_macs(index)
        kinds = self.block(index).convolutions()
        return {"layer": sum(convs)} | {k: sum(pair) for k, pair in zip(kinds, pairwise([*convs, 0]), strict=True)}

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return from_torchvision(state)

    def forward(self, images: Tensor, policy: Policy | None = None, *, compact: bool = False) -> Output:
        walk = self.begin(images, policy, compact=compact)
        u = self.stem(images)
        walk.pay(self.ends_macs() - self.head_macs)
        if self.config.gate_source == "stem":
            walk.memory["stem"] = u
        run = self._compact if compact else self._masked
        for index in range(len(self.blocks)):
            u, found = run(index, u, walk.memory.get("stem", u), walk)
            walk.pay(self._cost(index, found, walk.policy))
            walk.record(found.values())
            u = self.visit(index, u, walk)
            if walk.empty:
                break
        return self.finish(u, walk)

    def _cost(self, index: int, found: Found, policy: Policy) -> Tensor | float:
        """MACs (B,) or (1,) that each sample pays in a block, gates included.

        A closed channel group takes its filters out of the convolution that makes them and of the one that reads
        them; a convolution without an open filter leaves those before it unread, and they do not run. Channel heads
        are paid only where the block runs.
        """
        block, (*convs, shortcut) = self.block(index), self.block_macs(index)
        read: Tensor | float = float(block.inputs)
        total: Tensor | float = 0.0
        for macs, (kind, (conv, _)) in zip(convs, block.convolutions().items(), strict=True):
            n_open = _open_filters(found.get(kind), conv.out_channels)
            each = macs // (conv.in_channels * conv.out_channels)
            total = total * (n_open > 0) + read * n_open * each
            read = n_open
        always, when_open = self.gate_macs(index, policy)
        return shortcut + always + counted(found.get("layer")) * (total + when_open)

    def _masked(self, index: int, u: Tensor, source: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The block computed for every sample and filter, multiplied by the decisions."""
        block = self.block(index)
        read: Read = {}
        found: Found = {}
        for kind in ("layer", *block.convolutions()):
            decision = self.decide(index, kind, source, walk, read)
            if decision is not None:
                found[kind] = decision
        residual = block.residual(u, *_filter_masks(found, block))
        if "layer" not in found:
            return F.relu(block.skip(u) + residual), found
        return F.relu(
            torch.addcmul(block.skip(u), residual, as_maps(found["layer"].z_BU, residual)), inplace=True
        ), found

    def _compact(self, index: int, u: Tensor, source: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The block computed only for samples and filters that are open.

        Channel decisions of skipped samples read 0.
        """
        block = self.block(index)
        read: Read = {}
        layer = self.decide(index, "layer", source, walk, read)
        found = {} if layer is None else {"layer": layer}
        rows = open_rows(layer, len(u))
        if rows is not None and not len(rows):
            for kind in block.convolutions():
                if gate := self.gate(index, kind):
                    found[kind] = Decision(gate, u.new_zeros(1, gate.units, dtype=torch.float32), None)
            return (u if block.identity else F.relu(block.skip(u))), found
        chosen = u if rows is None else u[rows]
        if rows is not None:
            source = chosen if source is u else source[rows]
            read = {trunk: None if part is None else part[rows] for trunk, part in read.items()}
        channel: Found = {}
        for kind in block.convolutions():
            decision = self.decide(index, kind, source, walk, read, rows)
            if decision is not None:
                channel[kind] = decision
                found[kind] = scattered(decision, rows, len(u))
        residual = compact_residual(block, chosen, *_filter_masks(channel, block))
        if layer is not None:
            z_BU = layer.z_BU if rows is None or len(layer.z_BU) == 1 else layer.z_BU[rows]
            residual = residual * as_maps(z_BU, residual)
        if rows is None:
            return F.relu(block.skip(u) + residual), found
        return F.relu(block.skip(u).index_add(0, rows, residual)), found


def _units(config: GatedResNetConfig, block: AnyBlock) -> dict[str, int]:
    """How many units the block's gate of each kind has; kinds without a gate are left out."""
    units = {"layer": int(config.gates_layers)}
    for kind, (conv, _) in block.convolutions().items():
        units_of = config.outer_units if kind == "outer" else config.inner_units
        units[kind] = units_of(conv.out_channels)
    return {kind: n for kind, n in units.items() if n}


def _filter_masks(found: Found, block: AnyBlock) -> list[Tensor | None]:
    """For each convolution (B, filters) one value a filter from one a group; None where every filter is open."""
    masks: list[Tensor | None] = []
    for kind, (conv, _) in block.convolutions().items():
        decision = found.get(kind)
        group = 0 if decision is None else conv.out_channels // decision.gate.units
        masks.append(None if decision is None else decision.z_BU.repeat_interleave(group, dim=1))
    return masks


def _open_filters(decision: Decision | None, filters: int) -> Tensor | float:
    return float(filters) if decision is None else counted(decision) * (filters // decision.gate.units)


FAMILY = Family(
    name="gated_resnet",
    doc="ResNets whose gates skip blocks or filters, image by image",
    config=GatedResNetConfig,
    recipe=Recipe,
    build=GatedResNet,
    size_dimensions=("backbone", "width"),
    ladder={"width": (0.25, 0.5, 0.75, 1.0)},
    plain_dimensions=("shortcut", "stem", "stride_in"),
    size_words={"backbone": "{}", "width": "x{}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
)
