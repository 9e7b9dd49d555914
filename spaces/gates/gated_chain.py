"""Networks of gated blocks in a row, and the one way to run a block.

Masked execution computes a block for every image and channel and multiplies by the decisions. Compact execution
computes it only for the images and channels that are open. Both return the same.

Shapes: B images, A of them still in, C channels, H x W pixels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from spaces.contract.compute import linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Output
from spaces.contract.policies import Decision, Policy
from spaces.gates.closable import Closable, Found, mark_block, masks_of
from spaces.gates.gated_blocks import (
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


class GatedChain(GatedBlocks):
    """A network whose blocks run one after another, each as its gates decide."""

    def chain(self) -> Sequence[Closable]:
        """The blocks in order."""
        raise NotImplementedError

    def first_maps(self, images: Tensor) -> Tensor:
        """What the first block gets."""
        raise NotImplementedError

    def first_macs(self) -> int:
        """MACs of `first_maps`."""
        raise NotImplementedError

    def last_maps(self, u: Tensor) -> Tensor:
        """What the head gets of the last block's output."""
        return u

    def last_macs(self) -> int:
        """MACs of `last_maps`."""
        return 0

    def total_macs(self) -> int:
        """MACs of one image through the baseline."""
        raise NotImplementedError

    def behind(self, index: int, u: Tensor, walk: Walk) -> Tensor:
        """What block index + 1 gets: u, of those who did not leave at the exit behind block `index`."""
        return self.visit(index, u, walk)

    def add_gates_and_exits(
        self, config: GatedConfig, places: Sequence[Place], fc: nn.Linear
    ) -> None:
        """Build what makes the network dynamic; `fc` is the last layer of its head."""
        self.config = config
        self.add_gates(config, self._block_gates() if config.gated else ())
        self.plain_macs, self.head_macs = self.total_macs(), linear_macs(fc)
        self.add_exits(config, places, fc.in_features, on=config.gated)

    def always_open(self) -> set[int]:
        """Blocks that get no gate."""
        return forced_open(self.config, [block.identity for block in self.chain()])

    def unneeded(self, policy: Policy) -> list[str]:
        names = {module: name for name, module in self.named_modules()}
        unused = [*super().unneeded(policy)]
        for index, block in enumerate(self.chain()):
            gate = self.gate(index, "layer")
            if gate is not None and policy.settled(gate) == (0.0,):
                unused += [names[part] for part in block.open_parts()]
        return unused

    def _block_gates(self) -> Iterator[BlockGates]:
        blocks, always_open = self.chain(), self.always_open()
        for index, block in enumerate(blocks):
            units = _units(self.config, block)
            if units and index not in always_open:
                inputs = blocks[0].inputs if self.config.gate_source == "stem" else block.inputs
                yield BlockGates(index, inputs, units, block.guarded_macs(), block.size)

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        walk = self.begin(images, policy, compact=compact)
        walk.mark("stem", self.first_maps, images, macs=self.first_macs())
        u = self.first_maps(images)
        walk.pay(self.first_macs())
        if self.config.gate_source == "stem":
            walk.memory["stem"] = u
        for index, block in enumerate(self.chain()):
            u = self.behind(index, self.run_block(index, block, u, walk), walk)
            if walk.empty:
                return self.finish(u, walk)
        walk.pay(self.last_macs())
        walk.mark("last", self.last_maps, u, macs=self.last_macs())
        return self.finish(self.last_maps(u), walk)

    def run_block(self, index: int, block: Closable, u: Tensor, walk: Walk) -> Tensor:
        """What block `index` makes of u (A, ...) as its gates decide; what it costs is paid, decisions are recorded."""
        if self.gated(index):
            run = self._compact if walk.compact else self._masked
            u, found = run(index, block, u, walk)
        else:
            mark_block(block, u, {}, walk)
            u, found = block.masked(u, partial(block.residual, u), None), {}
        walk.pay(self._cost(index, block, found, walk.policy))
        walk.record(found.values())
        return u

    def _cost(self, index: int, block: Closable, found: Found, policy: Policy) -> Tensor | float:
        """MACs (A,) or (1,) that each image pays in a block, gates included.

        Heads of channel gates are paid only where the block runs.
        """
        always, when_open = self.gate_macs(index, policy)
        macs = block.macs(
            {kind: _open_channels(found.get(kind), n) for kind, n in block.channels.items()}
        )
        return block.shortcut_macs + always + counted(found.get("layer")) * (macs + when_open)

    def _masked(self, index: int, block: Closable, u: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The block computed for every image and channel, multiplied by the decisions."""
        read: Read = {}
        found: Found = {}
        source = _source(block, u, walk)
        for kind in ("layer", *block.channels):
            decision = self.decide(index, kind, source, walk, read)
            if decision is not None:
                found[kind] = decision
        mark_block(block, u, found, walk)
        residual = partial(block.residual, u, *masks_of(block, found))
        layer = found.get("layer")
        if walk.policy.branches and layer is not None:
            if walk.policy.settled(layer.gate) == (0.0,):
                return block.closed(u), found
            if layer.p_BU is not None:
                return _either(layer, block.masked(u, residual, None), block.closed(u)), found
        return block.masked(u, residual, _openness(layer, walk.policy)), found

    def _compact(self, index: int, block: Closable, u: Tensor, walk: Walk) -> tuple[Tensor, Found]:
        """The block computed only for images and channels that are open.

        Channel decisions of skipped images read 0.
        """
        read: Read = {}
        source = _source(block, u, walk)
        layer = self.decide(index, "layer", source, walk, read)
        found = {} if layer is None else {"layer": layer}
        rows = open_rows(layer, len(u))
        if rows is not None and not len(rows):
            return block.closed(u), found | self._closed_channels(index, block, u)
        z, chosen = _openness(layer, walk.policy), u
        if rows is not None:
            chosen = u[rows]
            z = z if z is None or len(z) == 1 else z[rows]
        channel = self._channels_of(
            index, block, chosen if source is u else source, walk, read, rows
        )
        found |= {kind: scattered(decision, rows, len(u)) for kind, decision in channel.items()}
        residual = partial(block.compact_residual, chosen, *masks_of(block, channel))
        return block.joined(u, residual, z, rows), found

    def _channels_of(
        self,
        index: int,
        block: Closable,
        source: Tensor,
        walk: Walk,
        read: Read,
        rows: Tensor | None,
    ) -> Found:
        """Decisions of the channel gates for the images `rows` (None: all); `source` is of them or of all."""
        kinds = [kind for kind in block.channels if self.gate(index, kind) is not None]
        if not kinds:
            return {}
        if rows is not None:
            source = source if len(source) == len(rows) else source[rows]
            read = {trunk: None if part is None else part[rows] for trunk, part in read.items()}
        decisions = {kind: self.decide(index, kind, source, walk, read, rows) for kind in kinds}
        return {kind: decision for kind, decision in decisions.items() if decision is not None}

    def _closed_channels(self, index: int, block: Closable, u: Tensor) -> Found:
        gates = {kind: self.gate(index, kind) for kind in block.channels}
        return {
            kind: Decision(gate, u.new_zeros(1, gate.units, dtype=torch.float32), None)
            for kind, gate in gates.items()
            if gate is not None
        }


def _either(decision: Decision, run: Tensor, closed: Tensor) -> Tensor:
    """`run` where the decision is to open, `closed` elsewhere."""
    return torch.where(decision.open_BU.reshape(-1, *(1,) * (run.ndim - 1)), run, closed)


def weighed(residual: Tensor, z: Tensor | None) -> Tensor:
    """The residual's maps times z (B or 1, 1); None: as they are."""
    return residual if z is None else residual * as_maps(z, residual)


def _units(config: GatedConfig, block: Closable) -> dict[str, int]:
    """How many units the block's gate of each kind has; kinds without a gate are left out."""
    units = {"layer": int(config.gates_layers and block.skippable)}
    for kind, channels in block.channels.items():
        units_of = config.outer_units if kind == "outer" else config.inner_units
        units[kind] = units_of(channels)
    return {kind: n for kind, n in units.items() if n}


def _source(block: Closable, u: Tensor, walk: Walk) -> Tensor:
    stem = walk.memory.get("stem")
    return block.source(u) if stem is None else stem


def _openness(layer: Decision | None, policy: Policy) -> Tensor | None:
    """(B or 1, 1) what the residual is multiplied with; None where that would change nothing."""
    if layer is None or policy.settled(layer.gate) == (1.0,):
        return None
    return layer.z_BU


def _open_channels(decision: Decision | None, channels: int) -> Tensor | float:
    return (
        float(channels)
        if decision is None
        else counted(decision) * (channels // decision.gate.units)
    )
