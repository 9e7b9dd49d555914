"""Family `gated_densenet`: DenseNet-BC whose layers are masked by gates and whose exits are decided by gates.

Backbone: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", CVPR, 2017. Masked
layers and gated exits behind the first two dense blocks: Herrmann, Bowen and Zabih, "Deep networks with probabilistic
gates", 2018. A closed layer's maps are zeros that are still concatenated, for a dense layer has no shortcut.
Differs: no dropout; a light exit gate by default, for at 32x32 the published one alone costs more than the network.

Shapes: B samples, C channels so far, K maps that a layer adds (the growth), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.compute import conv_macs, linear_macs
from spaces.family import Family
from spaces.gated_blocks import BlockGates, GatedBlocks, GatedConfig, as_maps, counted, forced_open, open_rows
from spaces.net import Output
from spaces.place import Place
from spaces.policies import Decision, Policy
from spaces.recipe import Recipe
from spaces.space import choice
from spaces.task import Task
from spaces.walk import Walk

BLOCKS = 3
_SMALLEST = 4  # pixels of an image's side, halved twice
_HAVE_EXITS = ("scan", "msdnet", "light")


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """Size of a DenseNet-BC for small images."""

    depth: int = choice(22, 40, 100, default=40, doc="layers; three dense blocks of (depth - 4) / 6 bottlenecks")
    growth: int = choice(4, 8, 12, 24, default=12, searched=False, doc="maps that each dense layer adds")
    compression: float = choice(
        0.5, 1.0, default=0.5, searched=False, doc="share of the maps that a transition between blocks keeps"
    )


@dataclass(frozen=True, kw_only=True)
class GatedDenseNetConfig(GatedConfig, DenseNetConfig):
    """A DenseNet-BC with layer gates, and exits that are decided by gates unless told otherwise."""

    exits: str = choice("none", *_HAVE_EXITS, default="msdnet", searched=False, doc="side branches that answer early")
    exit_decision: str = choice(
        "confidence", "gate", default="gate", when={"exits": _HAVE_EXITS}, searched=False,
        doc="leave by the answer's confidence (thresholds are searched after training), or by a learned gate",
    )  # fmt: skip
    granularity: str = choice("layer", default="layer", doc="gates skip whole dense layers")
    forced_open: str = choice(
        "none", "first", "first_last", default="none", searched=False, doc="dense layers that have no gate"
    )
    # layers of the first block cost many times those of the last, so a plain mean rate would say little of the compute
    weighting: str = choice(
        "count", "mac", default="mac", when={"loss": ("per_batch", "const_quad")}, searched=False,
        doc="gates count alike, or by the MACs they guard",
    )  # fmt: skip
    exit_after: str = choice(
        "block", "transition", default="block", when={"exits": _HAVE_EXITS}, searched=False,
        doc="exits read the dense block's maps, or the fewer and smaller ones behind the transition",
    )  # fmt: skip

    @property
    def head_filters(self) -> int:
        return super().head_filters * self.growth // 12  # the published heads stand on a network of growth 12


class DenseLayer(nn.Module):
    """Batch norm, ReLU and 1x1 convolution to 4K maps, then batch norm, ReLU and 3x3 convolution to K maps."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, u_BCHW: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(u_BCHW), inplace=True))
        return self.conv2(F.relu(self.norm2(h), inplace=True))

    def macs(self, height: int, width: int) -> int:
        return conv_macs(self.conv1, height, width) + conv_macs(self.conv2, height, width)


class Transition(nn.Module):
    """Batch norm, ReLU and 1x1 convolution to fewer maps, then the mean of 2x2 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(u), inplace=True)), 2)


class DenseNet(nn.Module):
    """A DenseNet-BC for a task; `sizes[b]` is the (height, width) in dense block b."""

    def __init__(self, config: DenseNetConfig, task: Task) -> None:
        super().__init__()
        if min(task.height, task.width) < _SMALLEST:
            raise ValueError(
                f"DenseNet needs images of {_SMALLEST}x{_SMALLEST} at least, not {task.height}x{task.width}"
            )
        self.task = task
        self.block_layers = (config.depth - 4) // (2 * BLOCKS)
        self.sizes = [(task.height >> block, task.width >> block) for block in range(BLOCKS)]
        channels = 2 * config.growth
        self.stem = nn.Conv2d(task.channels, channels, 3, 1, 1, bias=False)
        self.layers, self.transitions = nn.ModuleList(), nn.ModuleList()
        for block in range(BLOCKS):
            for _ in range(self.block_layers):
                self.layers.append(DenseLayer(channels, config.growth))
                channels += config.growth
            if block < BLOCKS - 1:
                self.transitions.append(Transition(channels, int(channels * config.compression)))
                channels = int(channels * config.compression)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, task.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def layer(self, index: int) -> DenseLayer:
        layer = self.layers[index]
        assert isinstance(layer, DenseLayer)
        return layer

    def transition(self, block: int) -> Transition:
        transition = self.transitions[block]
        assert isinstance(transition, Transition)
        return transition

    def head(self, u: Tensor) -> Tensor:
        return self.fc(u.mean((2, 3)))

    def stem_macs(self) -> int:
        return conv_macs(self.stem, self.task.height, self.task.width)

    def layer_macs(self, index: int) -> int:
        return self.layer(index).macs(*self.sizes[index // self.block_layers])

    def transition_macs(self, block: int) -> int:
        """MACs of the transition behind a block; its convolution comes before the pooling."""
        return conv_macs(self.transition(block).conv, *self.sizes[block])

    def total_macs(self) -> int:
        """MACs of one image through the plain network."""
        layers = sum(self.layer_macs(index) for index in range(len(self.layers)))
        transitions = sum(self.transition_macs(block) for block in range(len(self.transitions)))
        return self.stem_macs() + layers + transitions + linear_macs(self.fc)

    def block_ends(self) -> list[Place]:
        """The ends of all dense blocks but the last, before their transitions."""
        channels = [self.transition(block).conv.in_channels for block in range(BLOCKS - 1)]
        return [Place((b + 1) * self.block_layers - 1, c, *self.sizes[b]) for b, c in enumerate(channels)]

    def transition_ends(self) -> list[Place]:
        """The same places behind the transitions."""
        channels = [self.transition(block).conv.out_channels for block in range(BLOCKS - 1)]
        return [Place((b + 1) * self.block_layers - 1, c, *self.sizes[b + 1]) for b, c in enumerate(channels)]


class GatedDenseNet(DenseNet, GatedBlocks):
    """A DenseNet-BC with gates on its layers and, where asked for, exits at the ends of its blocks."""

    config: GatedDenseNetConfig

    def __init__(self, config: GatedDenseNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.add_gates(config, self._block_gates(config))
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        places = self.block_ends() if config.exit_after == "block" else self.transition_ends()
        self.add_exits(config, places, self.fc.in_features, on=config.gated)

    def _block_gates(self, config: GatedDenseNetConfig) -> Iterator[BlockGates]:
        ungated = forced_open(config, [True] * len(self.layers))
        for index in range(len(self.layers)):
            if config.gated and index not in ungated:
                stem = config.gate_source == "stem"
                inputs = self.stem.out_channels if stem else self.layer(index).conv1.in_channels
                yield BlockGates(index, inputs, {"layer": 1}, {"layer": self.layer_macs(index)})

    def forward(self, images: Tensor, policy: Policy | None = None, *, compact: bool = False) -> Output:
        walk = self.begin(images, policy, compact=compact)
        u = self.stem(images)
        walk.pay(self.stem_macs())
        if self.config.gate_source == "stem":
            walk.memory["stem"] = u
        for index in range(len(self.layers)):
            u = self._grown(index, u, walk)
            if (index + 1) % self.block_layers == 0 and index + 1 < len(self.layers):
                u = self._passed(index, u, walk)
            if walk.empty:
                break
        else:
            u = F.relu(self.norm(u), inplace=True)
        return self.finish(u, walk)

    def _grown(self, index: int, u_BCHW: Tensor, walk: Walk) -> Tensor:
        """(B, C + K, H, W): u and what a dense layer adds to it, zeros where its gate is closed."""
        decision = self.decide(index, "layer", walk.memory.get("stem", u_BCHW), walk, {})
        always, _ = self.gate_macs(index, walk.policy)
        walk.pay(always + counted(decision) * self.layer_macs(index))
        if decision is not None:
            walk.record([decision])
        added = _compact if walk.compact else _masked
        return torch.cat([u_BCHW, added(self.layer(index), u_BCHW, decision)], 1)

    def _passed(self, index: int, u: Tensor, walk: Walk) -> Tensor:
        """u behind the transition that follows layer `index`, of those who did not leave at the exit there."""
        block = index // self.block_layers
        if self.config.exit_after == "block":
            u = self.visit(index, u, walk)
            if walk.empty:
                return u
        walk.pay(self.transition_macs(block))
        u = self.transition(block)(u)
        return self.visit(index, u, walk) if self.config.exit_after == "transition" else u


def _masked(layer: DenseLayer, u: Tensor, decision: Decision | None) -> Tensor:
    """(B, K, H, W): the layer computed for every sample, multiplied by the decision."""
    maps = layer(u)
    return maps if decision is None else maps * as_maps(decision.z_BU, maps)


def _compact(layer: DenseLayer, u: Tensor, decision: Decision | None) -> Tensor:
    """(B, K, H, W): the layer computed only for samples for which it is open."""
    rows = open_rows(decision, len(u))
    if rows is None or decision is None:
        return _masked(layer, u, decision)
    whole = u.new_zeros(len(u), layer.conv2.out_channels, *u.shape[2:])
    if not len(rows):
        return whole
    maps = layer(u[rows])
    return whole.index_copy(0, rows, (maps * as_maps(decision.z_BU[rows], maps)).to(whole.dtype))


FAMILY = Family(
    name="gated_densenet",
    doc="DenseNet-BC with masked layers and exits that gates decide",
    config=GatedDenseNetConfig,
    recipe=Recipe,
    build=GatedDenseNet,
    size_dimensions=("depth", "growth"),
    ladder={"depth": (22, 40), "growth": (4, 8, 12)},
    plain_dimensions=("compression",),
    size_words={"depth": "depth {}", "growth": "growth {}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
)
