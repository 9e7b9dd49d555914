"""Family `gated_features`: which cells of an image does a classifier need? Learned rates open input features for good.

Feature selection with data-independent gates is proposed by Herrmann, Bowen and Zabih, "Deep networks with
probabilistic gates", 2018, for banks of visual features; here the features are cells of pixels, read by a multilayer
perceptron. Under a per-batch target of k of F cells gates collapse to open and closed, and thresholds then keep about k
of them.

Shapes: B images, F cells, P pixels of a cell (all channels), H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import linear_macs
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.net import DynamicNet, Objective, Output, Plan
from spaces.contract.policies import AlwaysOn, Decision, Gate, Policy
from spaces.contract.recipe import TransformerRecipe
from spaces.contract.space import PART, WEIGHT, choice, real
from spaces.contract.task import Task
from spaces.gates.gate_heads import GateConfig, GateHeads
from spaces.gates.gate_objective import GateObjective
from spaces.gates.gated_blocks import counted
from spaces.gates.reinforce import check_reinforce
from spaces.gates.sparsity import TARGETED, SparsityConfig


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Size of the perceptron and of the cells that it may read."""

    cell: int = choice(1, 2, 4, 8, 16, default=1, searched=False, doc="pixels on a cell's side")
    hidden: int = choice(16, 32, 64, 128, 256, default=64, doc="units of both hidden layers")


@dataclass(frozen=True, kw_only=True)
class GatedFeaturesConfig(SparsityConfig, GateConfig, CellConfig):
    """A perceptron with one gate a cell; gates are learned rates, the same for every image."""

    gated: bool = True
    granularity: str = "channel"
    gate: str = "independent"
    forced_open: str = "none"
    target: float = real(
        0.02, 1.0, within=PART, default=0.25, when={"loss": TARGETED}, doc="share of cells to read"
    )
    gamma_channel: float = real(
        0.003,
        0.5,
        within=WEIGHT,
        default=0.1,
        log=True,
        when={"loss": ("target_free",)},
        doc="pressure on the gates",
    )


class GatedFeatures(DynamicNet):
    """Cells, each times its gate, through two hidden layers. Only the first layer's cost depends on the gates."""

    def __init__(self, config: GatedFeaturesConfig, task: Task) -> None:
        super().__init__()
        if config.cell > min(task.height, task.width):
            raise ValueError(
                f"cell: {config.cell} pixels do not fit an image of {task.height}x{task.width}"
            )
        check_reinforce(config)
        self.config, self.task = config, task
        self.grid = (ceil(task.height / config.cell), ceil(task.width / config.cell))
        cells = self.grid[0] * self.grid[1]
        self.pixels = task.channels * config.cell**2
        self.fc1 = nn.Linear(cells * self.pixels, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.hidden)
        self.fc = nn.Linear(config.hidden, task.classes)
        self.gate_heads = nn.ModuleDict(
            {"0": GateHeads(config, 1, {"inner": cells})} if config.gated else {}
        )
        gate = Gate(
            name="cells",
            kind="inner",
            block=0,
            units=cells,
            offset=0,
            macs=float(self.pixels * config.hidden),
        )
        self.gates = (gate,) if config.gated else ()
        self.rest_macs = linear_macs(self.fc2) + linear_macs(self.fc)
        self.plain_macs = linear_macs(self.fc1) + self.rest_macs

    def gate_parameters(self) -> list[nn.Parameter]:
        return list(self.gate_heads.parameters())

    def objective(self, plan: Plan) -> Objective:
        return GateObjective(self, plan, self.config) if self.gates else Objective(self, plan)

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        if compact and self.training:
            raise RuntimeError("compact execution is for inference; call eval() first")
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        x_BFP = self.cells_of(images)
        decision = self._decided(walk, images)
        masks = () if decision is None else (decision.z_BU.to(x_BFP.dtype),)
        walk.mark("first", self._first_layer, images, *masks, macs=linear_macs(self.fc1))
        if decision is None:
            walk.pay(linear_macs(self.fc1))
            h = self.fc1(x_BFP.flatten(1))
        else:
            z_BF = decision.z_BU.to(x_BFP.dtype)
            walk.pay(counted(decision) * (self.pixels * self.config.hidden))
            walk.record([decision])
            h = self._first(x_BFP, z_BF, compact)
        walk.pay(self.rest_macs)
        walk.mark("head", self._rest, h, macs=self.rest_macs)
        return walk.output(self._rest(h))

    def _first_layer(self, images: Tensor, *masks_BF: Tensor) -> Tensor:
        x_BFP = self.cells_of(images)
        for z_BF in masks_BF:
            x_BFP = x_BFP * z_BF[:, :, None]
        return self.fc1(x_BFP.flatten(1))

    def _rest(self, h: Tensor) -> Tensor:
        return self.fc(F.relu(self.fc2(F.relu(h))))

    def cells_of(self, images: Tensor) -> Tensor:
        """(B, F, P) the pixels of each cell; an image that cells do not fill is padded with zeros."""
        side = self.config.cell
        pad = (0, self.grid[1] * side - self.task.width, 0, self.grid[0] * side - self.task.height)
        return F.unfold(F.pad(images, pad), side, stride=side).transpose(1, 2)

    def _decided(self, walk: Walk, images: Tensor) -> Decision | None:
        if not self.gates:
            return None
        gate, heads = self.gates[0], self.gate_heads["0"]
        assert isinstance(heads, GateHeads)
        settled = walk.policy.settled(gate)
        if settled is not None:
            return Decision.for_all(gate, settled, images.device)
        return walk.decide(gate, heads.logit("inner", None, walk.policy.undecided(gate)))

    def _first(self, x_BFP: Tensor, z_BF: Tensor, compact: bool) -> Tensor:
        """The first layer's outputs; compact: only cells that any image of the batch reads are multiplied."""
        if not compact:
            return self.fc1((x_BFP * z_BF[:, :, None]).flatten(1))
        read = (z_BF != 0).any(0).nonzero()[:, 0]
        if not len(read):
            return self.fc1.bias.expand(len(x_BFP), -1)
        weight = self.fc1.weight.unflatten(1, (-1, self.pixels))[:, read].flatten(1)
        return F.linear((x_BFP[:, read] * z_BF[:, read, None]).flatten(1), weight, self.fc1.bias)


FAMILY = Family(
    name="gated_features",
    doc="which cells of the image a perceptron needs: learned gates on its inputs",
    config=GatedFeaturesConfig,
    recipe=TransformerRecipe,
    build=GatedFeatures,
    size_dimensions=("hidden",),
    smaller_sizes={"hidden": (16, 32)},
    baseline_dimensions=("cell",),
    size_words={"hidden": "{} units"},
    traits=("loss", "target"),
)
