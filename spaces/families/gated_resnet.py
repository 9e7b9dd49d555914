"""Family `gated_resnet`: ResNets whose gates skip blocks, filters of a block, or both, image by image.

Layer gates: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018. Joint layer and
channel gates: Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks",
KI, 2020. Output groups and data-independent gates: Herrmann, Bowen and Zabih, "Deep networks with probabilistic
gates", 2018. A closed block keeps its shortcut and the ReLU after the sum; without shortcuts (section S2.3 there) gates
close filters alone. In bottlenecks the inner filters are those
of the first two convolutions, each with a gate of its own: "inner" and "middle".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.bottleneck import Bottleneck, from_torchvision
from spaces.backbones.resnet import Block, ResNet, ResNetConfig
from spaces.contract.family import Family
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice, one_of
from spaces.contract.task import Task
from spaces.gates.block_execution import compact_residual
from spaces.gates.closable import Closable
from spaces.gates.feedforward_gates import FEEDFORWARD
from spaces.gates.gate_heads import SHARED, SURVIVAL
from spaces.gates.gated_blocks import NUMBERS, GatedConfig, as_maps
from spaces.gates.gated_chain import GatedChain, weighed
from spaces.gates.sparsity import EACH, PUBLISHED_TARGETS


@dataclass(frozen=True, kw_only=True)
class GatedResNetConfig(GatedConfig, ResNetConfig):
    """A gated ResNet; `gated=False` is the baseline of the same size."""

    gate: str = choice(
        "dependent", "independent",
        accepts=one_of("dependent", "independent", *SHARED, SURVIVAL, *FEEDFORWARD),
        doc="decide by the image, or by a learned rate; also lstm (one for all gates, along the blocks), policy_net "
        "(one small network that sees the image once), survival (stochastic depth: fixed rates, falling with depth), "
        "ffgate_1 and ffgate_2 (two convolutions or one of the gate's own)",
    )  # fmt: skip
    target_vector: str = choice(
        "constant", "ramp_up", "ramp_down", "aig50", default="constant",
        accepts=one_of("constant", "ramp_up", "ramp_down", *PUBLISHED_TARGETS), when={"loss": EACH}, searched=False,
        doc="one target for all gates, rising or falling with depth, or the published one of resnet50's layer gates; "
        "also aig101, that of resnet101's",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.gated and self.gate in FEEDFORWARD and self.granularity != "layer":
            raise ValueError(
                f"gate: {self.gate} decides about whole blocks, not with granularity {self.granularity}; "
                "write granularity: layer beside it"
            )
        if self.gated and self.shortcut == "none" and self.granularity != "channel":
            raise ValueError(
                f"shortcut: none leaves nothing to hand on where gates of granularity {self.granularity} skip "
                "a block; write granularity: channel beside it"
            )
        backbone = self.target_vector.replace("aig", "resnet")
        if self.published_targets and (self.backbone, self.granularity) != (backbone, "layer"):
            raise ValueError(
                f"target_vector: {self.target_vector} is of the layer gates of {backbone}, not of the "
                f"{self.granularity} gates of {self.backbone}; choose ramp_up, ramp_down or constant"
            )

    @property
    def published_targets(self) -> bool:
        """Whether each block has the target that is published for it; where that is 1 it has no gate."""
        return self.loss in EACH and self.target_vector in PUBLISHED_TARGETS


class GatedResNet(ResNet, GatedChain):
    """A ResNet with gates and, where asked for, exits behind its stages.

    Parameters other than `gate_heads.*` and `exit_*` carry the names of the plain ResNet.
    """

    config: GatedResNetConfig

    def __init__(self, config: GatedResNetConfig, task: Task) -> None:
        super().__init__(config, task)
        self.add_gates_and_exits(config, self.stage_ends(), self.fc)

    def always_open(self) -> set[int]:
        if not self.config.published_targets:
            return super().always_open()
        published = PUBLISHED_TARGETS[self.config.target_vector]
        return super().always_open() | {i for i, target in enumerate(published) if target == 1}

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return from_torchvision(state)

    def chain(self) -> list[_ResidualBlock]:
        return [
            _ResidualBlock(self.block(index), self.block_macs(index), self.input_size(index))
            for index in range(len(self.blocks))
        ]

    def first_maps(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def first_macs(self) -> int:
        return self.stem_macs()


class _ResidualBlock(Closable):
    """A block of convolutions with a shortcut; channel gates close the filters of its convolutions."""

    def __init__(
        self, block: Block | Bottleneck, macs: tuple[int, ...], size: tuple[int, int]
    ) -> None:
        self.size = size
        self.block, self.inputs, self.identity = block, block.inputs, block.identity
        self.skippable = block.summed
        self.channels = {
            kind: conv.out_channels for kind, (conv, _) in block.convolutions().items()
        }
        *self.conv_macs, self.shortcut_macs = macs

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        return self.block.residual(u, *masks)

    def compact_residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        return compact_residual(self.block, u, *masks)

    def closed(self, u: Tensor) -> Tensor:
        return u if self.identity else F.relu(self.block.skip(u))

    def open_parts(self) -> Iterable[nn.Module]:
        return [part for name, part in self.block.named_children() if name != "shortcut"]

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        run = weighed(residual(), z)
        if not self.block.summed:
            return F.relu(run)
        skip = self.block.skip(u)
        return F.relu(skip + run if rows is None else skip.index_add(0, rows, run))

    def masked(self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None) -> Tensor:
        if z is None:
            return self.joined(u, residual, None, None)
        run, skip = residual(), self.block.skip(u)
        return F.relu(torch.addcmul(skip, run, as_maps(z, run)), inplace=True)

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> Tensor | float:
        """MACs of the convolutions.

        A closed channel group takes its filters out of the convolution that makes them and of the one that reads
        them; a convolution without an open filter leaves those before it unread, and they do not run.
        """
        read: Tensor | float = float(self.inputs)
        total: Tensor | float = 0.0
        for macs, (kind, (conv, _)) in zip(
            self.conv_macs, self.block.convolutions().items(), strict=True
        ):
            n_open = open_channels[kind]
            each = macs // (conv.in_channels * conv.out_channels)
            total = total * (n_open > 0) + read * n_open * each
            read = n_open
        return total

    def guarded_macs(self) -> dict[str, int]:
        """Of filters, those that make them and those that read them."""
        pairs = pairwise([*self.conv_macs, 0])
        return {"layer": sum(self.conv_macs)} | {
            k: sum(pair) for k, pair in zip(self.channels, pairs, strict=True)
        }


FAMILY = Family(
    name="gated_resnet",
    doc="ResNets whose gates skip blocks or filters, image by image",
    config=GatedResNetConfig,
    recipe=Recipe,
    build=GatedResNet,
    size_dimensions=("backbone", "width"),
    smaller_sizes={"width": (0.25, 0.5, 0.75, 1.0)},
    baseline_dimensions=("shortcut", "stem", "stride_in"),
    size_words={"backbone": "{}", "width": "x{}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
    numbers=NUMBERS,
)
