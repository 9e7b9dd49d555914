"""Family `gated_resnet`: CIFAR ResNets whose gates skip blocks, filters of a block, or both, image by image.

Layer gates: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018. Joint layer and
channel gates: Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks",
KI, 2020. Output groups and data-independent gates: Herrmann, Bowen and Zabih, "Deep networks with probabilistic
gates", 2018. A closed block keeps its shortcut and the ReLU after the sum.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.block_execution import compact_residual
from spaces.compute import linear_macs
from spaces.exits import ExitConfig, ExitNet, ExitObjective
from spaces.family import Family
from spaces.gate_objective import GateObjective
from spaces.gates import GateConfig, GateHeads
from spaces.net import Objective, Output, Plan
from spaces.policies import AlwaysOn, Decision, Gate, Policy
from spaces.recipe import Recipe
from spaces.resnet import Block, ResNet, ResNetConfig
from spaces.sparsity import SparsityConfig
from spaces.task import Task
from spaces.walk import Walk


@dataclass(frozen=True, kw_only=True)
class GatedResNetConfig(SparsityConfig, GateConfig, ExitConfig, ResNetConfig):
    """A gated CIFAR ResNet; `gated=False` is the plain net of the same size, a rung of the static ladder."""

    gated: bool = True


class GatedResNet(ResNet, ExitNet):
    """A ResNet with gates and, where asked for, exits behind its stages.

    Parameters other than `gate_heads.*` and `exit_*` carry the names of the plain ResNet.
    """

    def __init__(self, config: GatedResNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config = config
        open_blocks = _forced_open(config, self.blocks)
        self.gate_heads = nn.ModuleDict()
        gates: list[Gate] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            units = {} if index in open_blocks else _units(config, block)
            if not units:
                continue
            inputs = self.conv1.out_channels if config.gate_source == "stem" else block.conv1.in_channels
            self.gate_heads[str(index)] = GateHeads(config, inputs, units)
            first, second, _ = self.block_macs(index)
            macs = {"layer": first + second, "inner": first + second, "outer": second}
            for kind, n in units.items():
                offset = sum(gate.units for gate in gates)
                gates.append(
                    Gate(
                        name=f"block{index}.{kind}",
                        kind=kind,
                        block=index,
                        units=n,
                        offset=offset,
                        macs=macs[kind] / n,
                    )
                )
        self.gates = tuple(gates)
        self._by_block = {(gate.block, gate.kind): gate for gate in gates}
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        self.add_exits(config, self.stage_ends(), self.fc.in_features, on=config.gated)

    def gate_parameters(self) -> list[nn.Parameter]:
        return [*self.gate_heads.parameters(), *self.exit_gate_parameters()]

    def objective(self, plan: Plan) -> Objective:
        gated = GateObjective(self, plan, self.config) if self.gates else Objective(self, plan)
        return ExitObjective(self, plan, self.config, gated) if self.exit_count else gated

    def forward(self, images: Tensor, policy: Policy | None = None, *, compact: bool = False) -> Output:
        if compact and self.training:
            raise RuntimeError("compact execution would change batch-norm statistics; call eval() first")
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        u = self.stem(images)
        walk.pay(self.ends_macs() - self.head_macs)
        if self.config.gate_source == "stem":
            walk.memory["stem"] = u
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            run = _compact_block if compact else _masked_block
            u, found = run(self, index, block, u, walk.memory.get("stem", u), walk)
            walk.pay(self._block_cost(index, found, walk.policy))
            walk.record(found.values())
            u = self.visit(index, u, walk)
            if walk.empty:
                break
        return self.finish(u, walk)

    def heads(self, index: int) -> GateHeads | None:
        """The gates of block `index`, if it has any."""
        found = dict(self.gate_heads.items()).get(f"{index}")  # f-string: str(index) would break a compiled graph
        assert found is None or isinstance(found, GateHeads)
        return found

    def gate(self, index: int, kind: str) -> Gate | None:
        return self._by_block.get((index, kind))

    def _block_cost(self, index: int, found: dict[str, Decision], policy: Policy) -> Tensor:
        """MACs (B,) or (1,) that each sample pays in a block, gates included.

        A closed channel group takes its filters out of the convolution that makes them and of the one that reads
        them; with no outer filter open neither convolution runs. Channel heads are paid only where the block runs.
        """
        block, (height, width) = self.blocks[index], self.sizes[index]
        assert isinstance(block, Block)
        filters, pixels = block.conv1.out_channels, 9 * height * width
        device = self.fc.weight.device
        z = _column(found.get("layer"), device)
        n_inner = _open_filters(found.get("inner"), filters, device)
        n_outer = _open_filters(found.get("outer"), filters, device)
        first = n_inner * (pixels * block.conv1.in_channels) * (n_outer > 0)
        convs = first + n_inner * n_outer * pixels
        always, when_open = self._gate_cost(index, policy)
        return self.block_macs(index)[2] + always + z * (convs + when_open)

    def _gate_cost(self, index: int, policy: Policy) -> tuple[int, int]:
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
        when_open = (channel * heads.unit_macs() + (0 if shared else heads.trunk_macs())) if channel else 0
        return always, when_open


def _decide(
    net: GatedResNet,
    index: int,
    kind: str,
    source: Tensor,
    walk: Walk,
    read: dict[str, Tensor | None],
    rows: Tensor | None = None,
) -> Decision | None:
    """What the gate of this kind decides for each sample of `source`; None where the block has no such gate.

    `read` keeps the features of the block's trunks, so that kinds which share a trunk evaluate it once.
    """
    gate, heads = net.gate(index, kind), net.heads(index)
    if gate is None or heads is None:
        return None
    settled = walk.policy.settled(gate)
    if settled is not None:
        return Decision(gate, source.new_tensor([settled], dtype=torch.float32), None)
    trunk = heads.trunk_of(kind)
    if trunk not in read:
        read[trunk] = heads.features(source, kind)
    return walk.decide(gate, heads.logit(kind, read[trunk], walk.policy.undecided(gate)), rows)


def _masked_block(
    net: GatedResNet, index: int, block: Block, u: Tensor, source: Tensor, walk: Walk
) -> tuple[Tensor, dict[str, Decision]]:
    """The block computed for every sample and filter, multiplied by the decisions."""
    read: dict[str, Tensor | None] = {}
    found: dict[str, Decision] = {}
    for kind in ("layer", "inner", "outer"):
        decision = _decide(net, index, kind, source, walk, read)
        if decision is not None:
            found[kind] = decision
    masks = {kind: _filter_mask(found[kind], block) for kind in ("inner", "outer") if kind in found}
    residual = block.residual(u, **masks)
    if "layer" not in found:
        return F.relu(block.skip(u) + residual), found
    z = found["layer"].z_BU[:, :, None, None].to(residual.dtype)
    return F.relu(torch.addcmul(block.skip(u), residual, z), inplace=True), found


def _compact_block(
    net: GatedResNet, index: int, block: Block, u: Tensor, source: Tensor, walk: Walk
) -> tuple[Tensor, dict[str, Decision]]:
    """The block computed only for samples and filters that are open. Channel decisions of skipped samples read 0."""
    read: dict[str, Tensor | None] = {}
    layer = _decide(net, index, "layer", source, walk, read)
    found = {"layer": layer} if layer is not None else {}
    rows = None
    if layer is not None and len(layer.z_BU) == len(u):
        rows = layer.open_BU[:, 0].nonzero()[:, 0]
        if len(rows) == len(u):
            rows = None
    elif layer is not None and not layer.open_BU.item():
        rows = torch.empty(0, dtype=torch.long, device=u.device)
    if rows is not None and not len(rows):
        for kind in ("inner", "outer"):
            if gate := net.gate(index, kind):
                found[kind] = Decision(gate, u.new_zeros(1, gate.units, dtype=torch.float32), None)
        return (u if block.identity else F.relu(block.skip(u))), found
    chosen = u if rows is None else u[rows]
    chosen_source = chosen if source is u else (source if rows is None else source[rows])
    if rows is not None:
        read = {trunk: None if part is None else part[rows] for trunk, part in read.items()}
    masks = {}
    for kind in ("inner", "outer"):
        decision = _decide(net, index, kind, chosen_source, walk, read, rows)
        if decision is not None:
            masks[kind] = _filter_mask(decision, block)
            found[kind] = _scattered(decision, rows, len(u))
    residual = compact_residual(block, chosen, **masks)
    if layer is not None:
        z = layer.z_BU if rows is None or len(layer.z_BU) == 1 else layer.z_BU[rows]
        residual = residual * z[:, :, None, None].to(residual.dtype)
    if rows is None:
        return F.relu(block.skip(u) + residual), found
    return F.relu(block.skip(u).index_add(0, rows, residual)), found


def _scattered(decision: Decision, rows: Tensor | None, size: int) -> Decision:
    """The decision of the samples `rows` as one of all `size` samples, 0 for the others."""
    if rows is None:
        return decision
    whole = decision.z_BU.new_zeros(size, decision.gate.units)
    return Decision(decision.gate, whole.index_copy(0, rows, decision.z_BU.expand(len(rows), -1)), None)


def _filter_mask(decision: Decision, block: Block) -> Tensor:
    """(B, filters) one value a filter of the block from one a group."""
    filters = block.conv1.out_channels
    return decision.z_BU.repeat_interleave(filters // decision.gate.units, dim=1)


def _column(decision: Decision | None, device: torch.device) -> Tensor:
    if decision is None:
        return torch.ones(1, dtype=torch.float64, device=device)
    return _counted(decision)[:, 0]


def _open_filters(decision: Decision | None, filters: int, device: torch.device) -> Tensor:
    if decision is None:
        return torch.full((1,), float(filters), dtype=torch.float64, device=device)
    return _counted(decision).sum(1) * (filters // decision.gate.units)


def _counted(decision: Decision) -> Tensor:
    # a scaled-on gate multiplies by its rate but computes all of what it guards
    z_BU = decision.z_BU.double()
    return z_BU if decision.p_BU is not None else (z_BU > 0).double()


def _units(config: GatedResNetConfig, block: Block) -> dict[str, int]:
    filters = block.conv1.out_channels
    layer = 1 if config.gates_layers else 0
    units = {"layer": layer, "inner": config.inner_units(filters), "outer": config.outer_units(filters)}
    return {kind: n for kind, n in units.items() if n}


def _forced_open(config: GatedResNetConfig, blocks: nn.ModuleList) -> set[int]:
    last = len(blocks) - 1
    if not config.gated:
        return set(range(last + 1))
    downsampling = {i for i, block in enumerate(blocks) if isinstance(block, Block) and not block.identity}
    return {"none": set(), "first": {0}, "first_last": {0, last}, "downsample": downsampling}[config.forced_open]


FAMILY = Family(
    name="gated_resnet",
    doc="CIFAR ResNets whose gates skip blocks or filters, image by image",
    config=GatedResNetConfig,
    recipe=Recipe,
    build=GatedResNet,
    size_dimensions=("backbone", "width"),
    ladder={"width": (0.25, 0.5, 0.75, 1.0)},
    plain_dimensions=("shortcut",),
)
