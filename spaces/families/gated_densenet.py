"""Family `gated_densenet`: DenseNet-BC whose layers are masked by gates and whose exits are decided by gates.

Backbone: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", CVPR, 2017. Masked
layers and gated exits behind the first two dense blocks: Herrmann, Bowen and Zabih, "Deep networks with probabilistic
gates", 2018. A closed layer's maps are zeros that are still concatenated, for a dense layer has no shortcut.
Differs: no dropout; a light exit gate by default, for at 32x32 the published one (`exit_gate: published`) alone costs
more than the network.

Shapes: B samples, C channels so far, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice
from spaces.contract.task import Task
from spaces.gates.closable import Closable
from spaces.gates.gated_blocks import NUMBERS, GatedConfig
from spaces.gates.gated_chain import GatedChain, weighed

BLOCKS = 3
_SMALLEST = 4  # pixels of an image's side, halved twice
_HAVE_EXITS = ("scan", "msdnet", "light")


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """Size of a DenseNet-BC for small images."""

    depth: int = choice(
        22, 40, 100, default=40, doc="layers; three dense blocks of (depth - 4) / 6 bottlenecks"
    )
    growth: int = choice(
        4, 8, 12, 24, default=12, searched=False, doc="maps that each dense layer adds"
    )
    compression: float = choice(
        0.5,
        1.0,
        default=0.5,
        searched=False,
        doc="share of the maps that a transition between blocks keeps",
    )


@dataclass(frozen=True, kw_only=True)
class GatedDenseNetConfig(GatedConfig, DenseNetConfig):
    """A DenseNet-BC with layer gates, and exits that are decided by gates unless told otherwise."""

    exits: str = choice(
        "none",
        *_HAVE_EXITS,
        default="msdnet",
        searched=False,
        doc="side branches that answer early",
    )
    exit_decision: str = choice(
        "confidence", "gate", default="gate", when={"exits": _HAVE_EXITS}, searched=False,
        doc="leave by the answer's confidence (thresholds are searched after training), or by a learned gate",
    )  # fmt: skip
    granularity: str = choice("layer", default="layer", doc="gates skip whole dense layers")
    forced_open: str = choice(
        "none",
        "first",
        "first_last",
        default="none",
        searched=False,
        doc="dense layers that have no gate",
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
        # the published heads stand on a network of growth 12
        return super().head_filters * self.growth // 12


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
        """MACs of one image through the baseline."""
        layers = sum(self.layer_macs(index) for index in range(len(self.layers)))
        transitions = sum(self.transition_macs(block) for block in range(len(self.transitions)))
        return self.stem_macs() + layers + transitions + linear_macs(self.fc)

    def block_ends(self) -> list[Place]:
        """The ends of all dense blocks but the last, before their transitions."""
        channels = [self.transition(block).conv.in_channels for block in range(BLOCKS - 1)]
        return [
            Place((b + 1) * self.block_layers - 1, c, *self.sizes[b])
            for b, c in enumerate(channels)
        ]

    def transition_ends(self) -> list[Place]:
        """The same places behind the transitions."""
        channels = [self.transition(block).conv.out_channels for block in range(BLOCKS - 1)]
        return [
            Place((b + 1) * self.block_layers - 1, c, *self.sizes[b + 1])
            for b, c in enumerate(channels)
        ]


class GatedDenseNet(DenseNet, GatedChain):
    """A DenseNet-BC with gates on its layers and, where asked for, exits at the ends of its blocks."""

    config: GatedDenseNetConfig

    def __init__(self, config: GatedDenseNetConfig, task: Task) -> None:
        super().__init__(config, task)
        places = self.block_ends() if config.exit_after == "block" else self.transition_ends()
        self.add_gates_and_exits(config, places, self.fc)

    def chain(self) -> list[_GatedLayer]:
        return [
            _GatedLayer(self.layer(index), self.layer_macs(index))
            for index in range(len(self.layers))
        ]

    def first_maps(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def first_macs(self) -> int:
        return self.stem_macs()

    def last_maps(self, u: Tensor) -> Tensor:
        return F.relu(self.norm(u), inplace=True)

    def behind(self, index: int, u: Tensor, walk: Walk) -> Tensor:
        """u behind the transition that follows layer `index`, if one does, of those who did not leave there."""
        if (index + 1) % self.block_layers or index + 1 == len(self.layers):
            return u
        block = index // self.block_layers
        if self.config.exit_after == "block":
            u = self.visit(index, u, walk)
            if walk.empty:
                return u
        walk.pay(self.transition_macs(block))
        walk.mark("transition", self.transition(block), u, macs=self.transition_macs(block))
        u = self.transition(block)(u)
        return self.visit(index, u, walk) if self.config.exit_after == "transition" else u


class _GatedLayer(Closable):
    """A dense layer, whose maps are concatenated to its input; closed, it leaves zeros."""

    def __init__(self, layer: DenseLayer, total_macs: int) -> None:
        self.layer, self.total_macs = layer, total_macs
        self.inputs = layer.conv1.in_channels

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        return self.layer(u)

    def closed(self, u_BCHW: Tensor) -> Tensor:
        return torch.cat([u_BCHW, self._zeros(u_BCHW)], 1)

    def open_parts(self) -> Iterable[nn.Module]:
        return [self.layer]

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        maps = weighed(residual(), z)
        if rows is not None:
            maps = self._zeros(u).index_copy(0, rows, maps.to(u.dtype))
        return torch.cat([u, maps], 1)

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> int:
        return self.total_macs

    def guarded_macs(self) -> dict[str, int]:
        return {"layer": self.total_macs}

    def _zeros(self, u_BCHW: Tensor) -> Tensor:
        return u_BCHW.new_zeros(u_BCHW.shape[0], self.layer.conv2.out_channels, *u_BCHW.shape[2:])


FAMILY = Family(
    name="gated_densenet",
    doc="DenseNet-BC with masked layers and exits that gates decide",
    config=GatedDenseNetConfig,
    recipe=Recipe,
    build=GatedDenseNet,
    size_dimensions=("depth", "growth"),
    smaller_sizes={"depth": (22, 40), "growth": (4, 8, 12)},
    baseline_dimensions=("compression",),
    size_words={"depth": "depth {}", "growth": "growth {}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
    numbers=NUMBERS,
)
