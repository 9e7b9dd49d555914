"""The gates of a network's blocks: building them, asking them, and what they cost.

How a block runs that they decide about, see spaces.gates.gated_chain.

Shapes: B samples, A samples still in, C channels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from spaces.contract.forward_pass import Walk
from spaces.contract.net import Objective, Plan
from spaces.contract.policies import AlwaysOn, Decision, Gate, Policy
from spaces.contract.units import Guard
from spaces.exits.exit_config import EXIT_NUMBERS, ExitConfig
from spaces.exits.exit_objective import ExitObjective
from spaces.exits.exits import ExitNet
from spaces.gates.gate_heads import GATE_NUMBERS, HEEDLESS, SURVIVAL, GateConfig, GateHeads
from spaces.gates.gate_objective import GateObjective
from spaces.gates.reinforce import check_reinforce
from spaces.gates.shared_gates import PolicyNet, RecurrentGate
from spaces.gates.sparsity import SPARSITY_NUMBERS, SparsityConfig

NUMBERS = SPARSITY_NUMBERS | GATE_NUMBERS | EXIT_NUMBERS  # see `spaces.contract.family.Family`
# features of a block's trunks, so that kinds which share a trunk evaluate it once
Read = dict[str, Tensor | None]


@dataclass(frozen=True, kw_only=True)
class GatedConfig(SparsityConfig, GateConfig, ExitConfig):
    """Gates, what closes them, and exits; `gated=False` is the baseline of the same size."""

    gated: bool = True


@dataclass(frozen=True)
class BlockGates:
    """The gates that block `index` gets: channels they read, and by kind the units and the MACs that they guard.

    `size` is the height and width of what they read.
    """

    index: int
    channels: int
    units: Mapping[str, int]
    macs: Mapping[str, int]
    size: tuple[int, int] = (1, 1)


class GatedBlocks(ExitNet):
    """A network with gates on its blocks and, where asked for, exits behind some of them."""

    config: GatedConfig

    def add_gates(self, config: GatedConfig, blocks: Iterable[BlockGates]) -> None:
        """Build the heads and gates of these blocks."""
        self.config = config
        self.gate_heads = nn.ModuleDict()
        gates: list[Gate] = []
        if config.gated and config.gate == SURVIVAL and config.loss != "none":
            raise ValueError(
                f"gate: {SURVIVAL} has rates that no loss moves; write loss: none beside it"
            )
        blocks = list(blocks)
        if blocks:
            check_reinforce(config)
        for number, block in enumerate(blocks, start=1):
            self.gate_heads[str(block.index)] = GateHeads(
                config, block.channels, dict(block.units), number / len(blocks), block.size
            )
            for kind, n in block.units.items():
                name, offset = f"block{block.index}.{kind}", sum(gate.units for gate in gates)
                macs = block.macs[kind] / n
                gates.append(
                    Gate(name=name, kind=kind, block=block.index, units=n, offset=offset, macs=macs)
                )
        self.gates = tuple(gates)
        self._by_block = {(gate.block, gate.kind): gate for gate in gates}
        self._gated = {gate.block for gate in gates}
        self.gate_net = self._shared_gate(config) if gates else None
        # a gate that is settled is not asked, and those behind it do not hear of its block
        self.settles_exactly = not isinstance(self.gate_net, RecurrentGate)

    def _shared_gate(self, config: GatedConfig) -> RecurrentGate | PolicyNet | None:
        """The network that all gates ask, if the config has one."""
        if config.gate == "policy_net":
            return PolicyNet(config.gate_hidden, self.task)
        if config.gate != "lstm":
            return None
        if config.granularity != "layer":
            raise ValueError(
                f"gate: lstm decides about whole blocks, not with granularity {config.granularity}; "
                "take granularity layer, or gate policy_net"
            )
        return RecurrentGate(config.gate_hidden)

    def gate_parameters(self) -> list[nn.Parameter]:
        shared = [] if self.gate_net is None else [*self.gate_net.parameters()]
        return [*self.gate_heads.parameters(), *shared, *self.exit_gate_parameters()]

    def unneeded(self, policy: Policy) -> list[str]:
        unused = [*super().unneeded(policy)]
        if self.gate_net is not None and not self._asks(policy):
            unused.append("gate_net")
        undecided = {gate.block for gate in self._by_block.values() if policy.settled(gate) is None}
        return unused + [f"gate_heads.{block}" for block in self._gated - undecided]

    def _asks(self, policy: Policy) -> bool:
        """Whether any gate of a block is decided image by image."""
        return any(policy.settled(gate) is None for gate in self._by_block.values())

    def objective(self, plan: Plan) -> Objective:
        gated = GateObjective(self, plan, self.config) if self.gates else Objective(self, plan)
        return ExitObjective(self, plan, self.config, gated) if self.exit_count else gated

    def begin(self, images: Tensor, policy: Policy | None, *, compact: bool) -> Walk:
        """The state of a new forward pass. Raises RuntimeError for compact execution in training mode."""
        if compact and self.training:
            raise RuntimeError(
                "compact execution would change batch-norm statistics; call eval() first"
            )
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        if isinstance(self.gate_net, PolicyNet) and self._asks(walk.policy):
            names = tuple(gate.name for gate in self._by_block.values())
            walk.mark("gate", self.gate_net, images, macs=self.gate_net.own_macs, asks=names)
            walk.memory["policy"] = self.gate_net(images)
            walk.pay(self.gate_net.own_macs)
        return walk

    def heads(self, index: int) -> GateHeads | None:
        """The gates of block `index`, if it has any."""
        # f-string: str(index) would break a compiled graph
        found = dict(self.gate_heads.items()).get(f"{index}")
        assert found is None or isinstance(found, GateHeads)
        return found

    def gated(self, index: int) -> bool:
        """Whether block `index` has any gate."""
        return index in self._gated

    def gate(self, index: int, kind: str) -> Gate | None:
        return self._by_block.get((index, kind))

    def decide(
        self,
        index: int,
        kind: str,
        source_ACHW: Tensor,
        walk: Walk,
        read: Read,
        rows: Tensor | None = None,
    ) -> Decision | None:
        """What the gate of this kind decides for each sample of the source; None where the block has no such gate.

        `rows` are positions among those still in when the source holds not all of them.
        """
        gate, heads = self.gate(index, kind), self.heads(index)
        if gate is None or heads is None:
            return None
        settled = walk.policy.settled(gate)
        if settled is not None:
            return Decision.for_all(gate, settled, source_ACHW.device)
        trunk = heads.trunk_of(kind)
        self._mark_gate(index, gate, source_ACHW, walk, read)
        if trunk not in read:
            read[trunk] = self._read(heads.features(source_ACHW, kind), walk, rows)
        return walk.decide(gate, heads.logit(kind, read[trunk], walk.policy.undecided(gate)), rows)

    def _mark_gate(
        self, index: int, gate: Gate, source_ACHW: Tensor, walk: Walk, read: Read
    ) -> None:
        """Show the gate as a unit: what its kind reads, unless another kind has read it, and the decision."""
        heads, kind = self.heads(index), gate.kind
        assert heads is not None
        if walk.policy.watch is None or heads.kind in HEEDLESS:
            return
        known = read.get(heads.trunk_of(kind), walk.memory.get("policy"))
        layer = self.gate(index, "layer")
        guard = Guard(layer.name, open=True) if layer is not None and kind != "layer" else None
        mark = partial(walk.mark, "gate", guard=guard, asks=(gate.name,))
        net = self.gate_net
        if known is not None:
            mark(lambda seen: decided(heads.logit(kind, seen)), known)
        elif isinstance(net, RecurrentGate):
            state = torch.zeros(len(source_ACHW), self.config.gate_hidden)
            state = state.to(source_ACHW.device)
            read_of = lambda x, h, c: net(heads.features(x, kind), h, c)  # noqa: E731
            mark(
                lambda x, h, c: (*(s := read_of(x, h, c)), decided(heads.logit(kind, s[0]))),
                source_ACHW,
                state,
                state,
            )
        else:
            mark(lambda x: decided(heads.logit(kind, heads.features(x, kind))), source_ACHW)

    def _read(self, own_AH: Tensor | None, walk: Walk, rows: Tensor | None) -> Tensor | None:
        """(A, H) what heads read: what their block makes of it, or what the network that gates share makes of that."""
        if isinstance(self.gate_net, PolicyNet):
            return walk.memory["policy"] if rows is None else walk.memory["policy"][rows]
        if not isinstance(self.gate_net, RecurrentGate):
            return own_AH
        assert own_AH is not None
        state = [
            walk.memory.get(name, torch.zeros_like(own_AH)) for name in ("gate_hidden", "gate_cell")
        ]
        walk.memory["gate_hidden"], walk.memory["gate_cell"] = self.gate_net(own_AH, *state)
        return walk.memory["gate_hidden"]

    def gate_macs(self, index: int, policy: Policy) -> tuple[int, int]:
        """MACs of a block's gates that are always paid, and those paid where its layer gate is open."""
        heads = self.heads(index)
        if heads is None or not heads.dependent:
            return 0, 0
        undecided = {}
        for kind in heads.units:
            gate = self._by_block[index, kind]
            undecided[kind] = 0 if policy.settled(gate) is not None else len(policy.undecided(gate))
        layer = undecided.pop("layer", 0)
        channel = sum(undecided.values())
        always = heads.trunk_macs() + layer * heads.unit_macs() if layer else 0
        shared = layer and not heads.separate
        when_open = (
            (channel * heads.unit_macs() + (0 if shared else heads.trunk_macs())) if channel else 0
        )
        return always, when_open


def forced_open(config: GateConfig, identities: Sequence[bool]) -> set[int]:
    """Blocks that the config leaves without gates; `identities` says of each block whether it keeps the shape."""
    changing = {index for index, identity in enumerate(identities) if not identity}
    last = len(identities) - 1
    return {"none": set(), "first": {0}, "first_last": {0, last}, "downsample": changing}[
        config.forced_open
    ]


def open_rows(decision: Decision | None, size: int) -> Tensor | None:
    """Positions of the samples, of `size` in all, for which a layer is open; None for all of them."""
    if decision is None:
        return None
    if len(decision.z_BU) < size:  # one decision for every sample
        return (
            None
            if decision.open_BU.item()
            else torch.empty(0, dtype=torch.long, device=decision.z_BU.device)
        )
    rows = decision.open_BU[:, 0].nonzero()[:, 0]
    return None if len(rows) == size else rows


def scattered(decision: Decision, rows: Tensor | None, size: int) -> Decision:
    """The decision of the samples `rows` as one of all `size` samples, 0 for the others."""
    if rows is None:
        return decision
    whole = decision.z_BU.new_zeros(size, decision.gate.units)
    return Decision(
        decision.gate, whole.index_copy(0, rows, decision.z_BU.expand(len(rows), -1)), None
    )


def decided(logit_BU: Tensor) -> tuple[Tensor, Tensor]:
    """What a gate's decision takes beyond its logits: which units are open (B, U), and how many of them (B,)."""
    open_BU = torch.sigmoid(logit_BU) > 0.5
    return open_BU, open_BU.to(torch.float64).sum(1)


def as_maps(z_BU: Tensor, like_BCHW: Tensor) -> Tensor:
    """(B, U, 1, 1) decisions that multiply maps, in their dtype."""
    return z_BU[:, :, None, None].to(like_BCHW.dtype)


def counted(decision: Decision | None) -> Tensor | float:
    """(B or 1,) how many units are open: all of the one there would be, where there is no gate."""
    if decision is None:
        return 1.0
    z_BU = decision.z_BU.double()
    # a scaled-on gate multiplies by its rate but computes all of what it guards
    return (z_BU if decision.p_BU is not None else (z_BU > 0).double()).sum(1)


def mixed(skip: Tensor, run: Tensor, z: Tensor) -> Tensor:
    """`run` where z is 1 and `skip` where it is 0, exactly; z in between scales the difference. Gradient to all three.

    The textbook skip + z (run - skip) has the same gradient, but rounds where z is 1.
    """
    return torch.lerp(skip.to(run.dtype), run, z.to(run.dtype))
