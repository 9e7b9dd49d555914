"""A trained gated ResNet made ready to ship: what never varies is gone, what varies is skipped for real.

Gates that are settled lose their heads, closed blocks and filters are cut out, batch norm is folded into the
convolutions, pixel normalisation is part of the network. What remains dynamic computes only what is open.

Shapes: B images, U units of a gate, V units that are decided per image, C filters kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.resnet import Block, fold_batch_norm
from spaces.contract.knobs import Knobs
from spaces.contract.policies import Fixed
from spaces.contract.task import Task
from spaces.deploy.generic import gate_counts
from spaces.deploy.resnet_block import (
    KINDS,
    BlockGates,
    DeployedBlock,
    Settled,
    Units,
    blank_layer,
    value_by_filter,
)
from spaces.deploy.thresholds import Values, tau_of
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig
from spaces.gates.gate_heads import GateHeads


class DeployedResNet(nn.Module):
    """A classifier of pixels in [0, 1]. Rebuilt from (config, task, settled, taus) and a state dict alone."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(
        self,
        config: GatedResNetConfig,
        task: Task,
        settled: Mapping[str, Settled],
        taus: Mapping[str, float],
    ) -> None:
        super().__init__()
        with torch.device("meta"):  # shapes are all that is needed of it
            template = GatedResNet(config, task)
        self.task, self.gate_source = task, config.gate_source
        self.settled, self.taus = settled, taus
        self.register_buffer("mean", torch.tensor(task.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(task.std)[:, None, None], persistent=False)
        self.stem = blank_layer(nn.Conv2d, task.channels, template.conv1.out_channels, 3, 1, 1)
        blocks = []
        for index, block in enumerate(template.blocks):
            assert isinstance(block, Block)
            own = settled.get(str(index), {})
            size, heads = template.sizes[index], template.heads(index)
            blocks.append(DeployedBlock(block, size, heads, own))
        self.blocks = nn.ModuleList(blocks)
        self.fc = blank_layer(nn.Linear, template.fc.in_features, task.classes)
        self.ends_macs = template.ends_macs()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes) of pixels (B, C, H, W) in [0, 1]."""
        return self.run(pixels)[0]

    def description(self) -> dict[str, Any]:
        """What must be known beside config and weights to build it again."""
        return {"deployed": "resnet", "settled": self.settled, "taus": self.taus}

    @property
    def fixed(self) -> Fixed:
        """Units of gates settled for good, by the gates' names."""
        return {
            f"block{b}.{kind}": values
            for b, kinds in self.settled.items()
            for kind, values in kinds.items()
        }

    @property
    def dynamic(self) -> bool:
        """Whether what is computed depends on the image: a gate decides."""
        return self.gate_counts()["dynamic"] > 0

    def gate_counts(self) -> dict[str, int]:
        """Gate units that decide per image, and those that were settled open and closed."""
        return gate_counts(v for values in self.fixed.values() for v in values)

    @property
    def thresholds(self) -> dict[str, float]:
        """By name of the gate, of those that decide per image."""
        return {
            name: self.taus[name]
            for index, block in enumerate(self.blocks)
            for name in (f"block{index}.{kind}" for kind in KINDS if block.decides(kind))  # type: ignore[operator]
        }

    def run(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) and the MACs (B,) that each image took; `thresholds` (T,) are other ones than its own."""
        return self._passed(pixels, thresholds, masked=False)

    def masked(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """What `run` gives, with everything computed and chosen afterwards: the form that exporters can trace."""
        values = thresholds.float().split(1) if isinstance(thresholds, Tensor) else thresholds
        return self._passed(pixels, values, masked=True)

    def _passed(
        self, pixels: Tensor, thresholds: Values | Sequence[Tensor] | None, *, masked: bool
    ) -> tuple[Tensor, Tensor]:
        own = self.thresholds
        taus = own if thresholds is None else dict(zip(own, thresholds, strict=True))
        u = stem = F.relu(self.stem((pixels - self.mean) / self.std))
        macs_B = u.new_full((u.shape[0],), float(self.ends_macs), dtype=torch.float64)
        for index, block in enumerate(self.blocks):
            by_kind = {kind: taus.get(f"block{index}.{kind}") for kind in KINDS}
            assert isinstance(block, DeployedBlock)
            run = block.masked if masked else block
            u, cost_B = run(u, stem if self.gate_source == "stem" else u, by_kind)
            macs_B = macs_B + cost_B
        return self.fc(u.mean((2, 3))), macs_B


def by_block(net: GatedResNet, fixed: Fixed) -> dict[str, dict[str, Units]]:
    """What gates are settled to, by block and gate kind."""
    found: dict[str, dict[str, Units]] = {}
    for gate in net.gates:
        found.setdefault(str(gate.block), {})[gate.kind] = fixed[gate.name]
    return found


@torch.no_grad()
def deploy(
    net: GatedResNet, settled: Mapping[str, Settled], taus: Mapping[str, float]
) -> DeployedResNet:
    """The trained network with settled gates cut out and batch norm folded in; in eval mode, float32."""
    out = DeployedResNet(net.config, net.task, settled, taus)
    _copy(out.stem, *fold_batch_norm(net.conv1, net.bn1))
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        target = out.blocks[index]
        assert isinstance(target, DeployedBlock)
        _fill_block(target, block, net.heads(index), settled.get(str(index), {}))
    out.fc.load_state_dict(net.fc.state_dict())
    return out.eval()


def _fill_block(
    target: DeployedBlock, block: Block, heads: GateHeads | None, settled: Settled
) -> None:
    if isinstance(block.shortcut, nn.Sequential) and target.shortcut is not None:
        conv, norm = block.shortcut
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _copy(target.shortcut, *fold_batch_norm(conv, norm))
    if target.closed:
        return
    weight1, bias1 = fold_batch_norm(block.conv1, block.bn1)
    weight2, bias2 = fold_batch_norm(block.conv2, block.bn2)
    inner = _scales(settled.get("inner"), len(bias2))
    outer = _scales(settled.get("outer"), len(bias2)) * _scales(settled.get("layer"), 1)
    weight2 = weight2 * inner[None, :, None, None] * outer[:, None, None, None]
    bias2 = bias2 * outer
    _copy(target.conv1, weight1[target.kept_inner], bias1[target.kept_inner])
    _copy(target.conv2, weight2[target.kept_outer][:, target.kept_inner], bias2[target.kept_outer])
    if target.gates is not None:
        assert heads is not None
        for kind in target.gates.heads:
            _fill_gate(target.gates, heads, kind, settled[kind])


def _scales(units: Units | None, filters: int) -> Tensor:
    """(filters,) what each filter is multiplied by for good; 1 where its unit is decided per image."""
    values = value_by_filter(units, filters)
    return torch.tensor([1.0 if value is None else value for value in values])


def _fill_gate(gates: BlockGates, heads: GateHeads, kind: str, values: Units) -> None:
    trunk = heads.channel_trunk if heads.separate and kind != "layer" else heads.trunk
    linear = trunk[0]
    assert isinstance(linear, nn.Linear)
    weight: Tensor = linear.weight
    bias: Tensor = linear.bias
    if isinstance(norm := trunk[1], nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight, bias = weight * scale[:, None], (bias - norm.running_mean) * scale + norm.bias
    _copy(gates.trunks[gates.trunk_of[kind]], weight, bias)  # type: ignore[arg-type]
    head = heads.heads[kind]
    assert isinstance(head, nn.Linear)
    head_weight: Tensor = head.weight
    head_bias: Tensor = head.bias
    if heads.logits_a_unit == 2:
        units = len(values)
        head_weight = head_weight[units:] - head_weight[:units]
        head_bias = head_bias[units:] - head_bias[:units]
    undecided = [i for i, v in enumerate(values) if v is None]
    _copy(gates.heads[kind], head_weight[undecided], head_bias[undecided])  # type: ignore[arg-type]


def _copy(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)


def gate_taus(net: GatedResNet, knobs: Knobs) -> dict[str, float]:
    """The threshold of every gate by name."""
    return {gate.name: tau_of(knobs, gate.name) for gate in net.gates}


def rebuild(config: GatedResNetConfig, task: Task, values: Mapping[str, Any]) -> DeployedResNet:
    """The network of an exported description, its weights still to be loaded."""
    settled = {b: {k: tuple(v) for k, v in kinds.items()} for b, kinds in values["settled"].items()}
    return DeployedResNet(config, task, settled, values["taus"])
