"""A trained gated ResNet made ready to ship: what never varies is gone, what varies is skipped for real.

Gates that are settled lose their heads, closed blocks and filters are cut out, batch norm is folded into the
convolutions, pixel normalisation is part of the network. What remains dynamic computes only what is open.

Shapes: B images, U units of a gate, V units that are decided per image, C filters kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from spaces.backbones.resnet import Block, folded
from spaces.contract.compute import conv_macs, linear_macs
from spaces.contract.knobs import Knobs, Rates, collapsed_gates
from spaces.contract.policies import Fixed
from spaces.contract.task import Task
from spaces.deploy.generic import gate_counts
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig
from spaces.gates.gate_heads import GateHeads

Settled = Mapping[str, tuple[float | None, ...]]


class BlockGates(nn.Module):
    """The gates of a block that still decide: hidden layers (batch norm folded) and one logit a unit.

    `trunk_of` names the hidden layer that each gate kind reads; kinds may share one.
    """

    def __init__(
        self, inputs: int, hidden: int, trunk_of: Mapping[str, str], units: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.trunk_of = {kind: trunk_of[kind] for kind in units}
        self.trunks = nn.ModuleDict(
            {
                name: _blank(nn.Linear, inputs, hidden)
                for name in dict.fromkeys(self.trunk_of.values())
            }
        )
        self.heads = nn.ModuleDict(
            {kind: _blank(nn.Linear, hidden, n) for kind, n in units.items()}
        )

    def open_units(self, kind: str, pooled: Tensor, tau: float) -> Tensor:
        """(B, inputs) pooled features → (B, V) bool."""
        features = F.relu(self.trunks[self.trunk_of[kind]](pooled))
        return torch.sigmoid(self.heads[kind](features)) > tau

    def macs(self, kinds: tuple[str, ...], paid: tuple[str, ...] = ()) -> int:
        """MACs of these kinds' gates, hidden layers that the `paid` kinds evaluated before not counted again."""
        have = {self.trunk_of[kind] for kind in paid if kind in self.heads}
        own = [kind for kind in kinds if kind in self.heads]
        trunks = {self.trunk_of[kind] for kind in own} - have
        layers = [self.heads[kind] for kind in own] + [self.trunks[name] for name in trunks]
        return sum(linear_macs(layer) for layer in layers if isinstance(layer, nn.Linear))


class DeployedBlock(nn.Module):
    """One residual block. `settled` gives each gate kind's units: 0 or 1 or a scale for good, None decided per image.

    conv1 keeps the filters that may open, conv2 the matching columns and the output filters that may open
    (`rows`, their places). `layer`, `inner`, `outer` are the gates that still decide; `groups` maps filters to units.
    """

    def __init__(
        self,
        template: Block,
        size: tuple[int, int],
        heads: GateHeads | None,
        settled: Settled,
        taus: Mapping[str, float],
    ) -> None:
        super().__init__()
        filters = template.conv1.out_channels
        self.size, self.stride, self.extra, self.identity = (
            size,
            template.stride,
            template.extra,
            template.identity,
        )
        self.filters, self.taus = filters, dict(taus)
        inner = _spread(settled.get("inner"), filters)
        outer = _spread(settled.get("outer"), filters)
        self.kept_inner = [f for f in range(filters) if inner[f] != 0]
        self.kept_outer = [f for f in range(filters) if outer[f] != 0]
        self.closed = settled.get("layer") == (0.0,) or not self.kept_outer
        self.shortcut = (
            _blank(nn.Conv2d, template.conv1.in_channels, filters, 1, self.stride)
            if template.shortcut is not None
            else None
        )
        if self.closed:
            return
        self.conv1 = _blank(
            nn.Conv2d, template.conv1.in_channels, len(self.kept_inner), 3, self.stride, 1
        )
        self.conv2 = _blank(nn.Conv2d, len(self.kept_inner), len(self.kept_outer), 3, 1, 1)
        undecided = {
            kind: n for kind, values in settled.items() if (n := sum(v is None for v in values))
        }
        self.gates: BlockGates | None = None
        if undecided:
            assert heads is not None
            trunk_of = {
                k: "channel" if heads.separate and k != "layer" else "shared" for k in undecided
            }
            self.gates = BlockGates(heads.channels, heads.hidden, trunk_of, undecided)
        # for each kept filter: which undecided unit guards it, or -1 where it is always open
        self.inner_unit = _unit_of(settled.get("inner"), filters, self.kept_inner)
        self.outer_unit = _unit_of(settled.get("outer"), filters, self.kept_outer)

    def skip(self, u: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.shortcut(u)
        if self.identity:
            return u
        return F.pad(u[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def decides(self, kind: str) -> bool:
        """Whether the gate of this kind depends on the image."""
        return not self.closed and self.gates is not None and kind in self.gates.heads

    def forward(self, u: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output and the MACs (B,) that each image took; source (B, C, H, W) is what the gates read."""
        macs_B = torch.full(
            (len(u),), float(self._skip_macs()), dtype=torch.float64, device=u.device
        )
        if self.closed:
            return self._without(u), macs_B
        rows = None
        if self.decides("layer"):
            assert self.gates is not None
            macs_B += self.gates.macs(("layer",))
            open_B = self.gates.open_units("layer", source.mean((2, 3)), self.taus["layer"])[:, 0]
            if len(u) == 1:
                if not open_B.item():
                    return self._without(u), macs_B
            elif not bool(open_B.all()):
                rows = open_B.nonzero()[:, 0]
                if not len(rows):
                    return self._without(u), macs_B
        chosen = u if rows is None else u[rows]
        pooled_source = source if rows is None else source[rows]
        residual, cost = self._residual(chosen, pooled_source)
        macs_B = macs_B + cost if rows is None else macs_B.index_add(0, rows, cost)
        skip = self.skip(u)
        return F.relu(
            skip + residual if rows is None else skip.index_add(0, rows, residual)
        ), macs_B

    def _without(self, u: Tensor) -> Tensor:
        return u if self.identity else F.relu(self.skip(u))

    def _residual(self, u: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The residual of every image of u, and the MACs (B,) of its open filters and of the gates that opened them."""
        masks = self._masks(source)
        gate_macs = (
            self.gates.macs(("inner", "outer"), paid=("layer",)) if self.gates is not None else 0
        )
        inner, outer = masks.get("inner"), masks.get("outer")
        n_inner = (
            inner.sum(1, dtype=torch.float64)
            if inner is not None
            else float(self.conv1.out_channels)
        )
        n_outer = (
            outer.sum(1, dtype=torch.float64)
            if outer is not None
            else float(self.conv2.out_channels)
        )
        pixels = 9 * self.size[0] * self.size[1]
        # with no filter of the last convolution open, the first has no reader and is not run either
        first = n_inner * (pixels * self.conv1.in_channels) * (torch.as_tensor(n_outer) > 0)
        cost_B = (
            (first + n_inner * n_outer * pixels + gate_macs).double().to(u.device).expand(len(u))
        )
        if len(u) == 1 and masks:
            return self._one(u, inner, outer), cost_B
        r = self._convolved(u, inner)
        r = r if outer is None else r * outer[:, :, None, None].to(r.dtype)
        return self._placed(r), cost_B

    def _convolved(self, u: Tensor, inner: Tensor | None) -> Tensor:
        if not self.kept_inner:  # nothing but the second batch norm's shift is left of the residual
            return self.conv2.bias[None, :, None, None].expand(len(u), -1, *self.size)
        h = F.relu(self.conv1(u))
        return self.conv2(h if inner is None else h * inner[:, :, None, None].to(h.dtype))

    def _one(self, u: Tensor, inner: Tensor | None, outer: Tensor | None) -> Tensor:
        """A single image: only open rows and columns of the convolutions are read."""
        weight1, bias1, weight2, bias2 = (
            self.conv1.weight,
            self.conv1.bias,
            self.conv2.weight,
            self.conv2.bias,
        )
        assert bias1 is not None
        assert bias2 is not None
        if inner is not None:
            open_N = inner[0].nonzero()[:, 0]
            weight1, bias1, weight2 = weight1[open_N], bias1[open_N], weight2[:, open_N]
        open_out = None
        if outer is not None:
            open_out = outer[0].nonzero()[:, 0]
            weight2, bias2 = weight2[open_out], bias2[open_out]
        shape = (1, len(bias2), *self.size)
        if not len(bias2) or not len(bias1):
            r = bias2[None, :, None, None].expand(shape)
        else:
            r = F.conv2d(F.relu(F.conv2d(u, weight1, bias1, self.stride, 1)), weight2, bias2, 1, 1)
        if open_out is not None:
            r = r.new_zeros(1, self.conv2.out_channels, *self.size).index_copy(1, open_out, r)
        return self._placed(r)

    def _masks(self, source: Tensor) -> dict[str, Tensor]:
        """Which of the kept filters are open, (B, C) bool, by gate kind that decides."""
        masks: dict[str, Tensor] = {}
        for kind, unit_of in (("inner", self.inner_unit), ("outer", self.outer_unit)):
            if self.decides(kind):
                assert self.gates is not None
                open_BV = self.gates.open_units(kind, source.mean((2, 3)), self.taus[kind])
                always = open_BV.new_ones(len(open_BV), 1)
                # -1 picks the last column
                masks[kind] = torch.cat([open_BV, always], 1)[:, unit_of]
        return masks

    def _placed(self, r: Tensor) -> Tensor:
        if len(self.kept_outer) == self.filters:
            return r
        whole = r.new_zeros(len(r), self.filters, *r.shape[2:])
        whole[:, self.kept_outer] = r
        return whole

    def _skip_macs(self) -> int:
        return conv_macs(self.shortcut, *self.size) if self.shortcut is not None else 0


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
        self.stem = _blank(nn.Conv2d, task.channels, template.conv1.out_channels, 3, 1, 1)
        blocks = []
        for index, block in enumerate(template.blocks):
            assert isinstance(block, Block)
            own = settled.get(str(index), {})
            tau = {kind: taus[f"block{index}.{kind}"] for kind in own}
            blocks.append(
                DeployedBlock(block, template.sizes[index], template.heads(index), own, tau)
            )
        self.blocks = nn.ModuleList(blocks)
        self.fc = _blank(nn.Linear, template.fc.in_features, task.classes)
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

    def gate_counts(self) -> dict[str, int]:
        """Gate units that decide per image, and those that were settled open and closed."""
        return gate_counts(v for values in self.fixed.values() for v in values)

    def run(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) and the MACs (B,) that each image took."""
        u = stem = F.relu(self.stem((pixels - self.mean) / self.std))
        macs_B = torch.full((len(u),), float(self.ends_macs), dtype=torch.float64, device=u.device)
        for block in self.blocks:
            u, cost_B = block(u, stem if self.gate_source == "stem" else u)
            macs_B = macs_B + cost_B
        return self.fc(u.mean((2, 3))), macs_B


def settled_gates(
    net: GatedResNet, knobs: Knobs, rates: Rates
) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """By block and gate kind, the units' values that hold for every image under the knobs; None decides per image.

    A threshold settles data-independent gates, and those that never (or always) opened on validation; with
    `knobs.prune` also those that nearly never did. Raises ValueError for policies that draw at random.
    """
    if knobs.policy not in ("threshold", "always_on", "scaled_on"):
        raise ValueError(
            f"a point with policy {knobs.policy} draws its gates at random and cannot be exported"
        )
    fixed: Fixed = collapsed_gates(rates, knobs.prune or 0.0)
    if knobs.policy == "always_on":
        fixed = {gate.name: (1.0,) * gate.units for gate in net.gates}
    elif knobs.policy == "scaled_on":
        fixed = {gate.name: tuple(rates[gate.name]) for gate in net.gates}
    found: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for gate in net.gates:
        found.setdefault(str(gate.block), {})[gate.kind] = tuple(fixed[gate.name])
    return found


@torch.no_grad()
def deployed(
    net: GatedResNet, settled: Mapping[str, Settled], taus: Mapping[str, float]
) -> DeployedResNet:
    """The trained network with settled gates cut out and batch norm folded in; in eval mode, float32."""
    out = DeployedResNet(net.config, net.task, settled, taus)
    _copy(out.stem, *folded(net.conv1, net.bn1))
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
        _copy(target.shortcut, *folded(conv, norm))
    if target.closed:
        return
    weight1, bias1 = folded(block.conv1, block.bn1)
    weight2, bias2 = folded(block.conv2, block.bn2)
    filters = len(bias2)
    inner = torch.tensor([1.0 if v is None else v for v in _spread(settled.get("inner"), filters)])
    outer = torch.tensor([1.0 if v is None else v for v in _spread(settled.get("outer"), filters)])
    layer = settled.get("layer", (1.0,))[0]
    outer = outer * (1.0 if layer is None else layer)
    weight2 = weight2 * inner[None, :, None, None] * outer[:, None, None, None]
    bias2 = bias2 * outer
    _copy(target.conv1, weight1[target.kept_inner], bias1[target.kept_inner])
    _copy(target.conv2, weight2[target.kept_outer][:, target.kept_inner], bias2[target.kept_outer])
    if target.gates is not None:
        assert heads is not None
        for kind in target.gates.heads:
            _fill_gate(target.gates, heads, kind, settled[kind])


def _fill_gate(
    gates: BlockGates, heads: GateHeads, kind: str, values: tuple[float | None, ...]
) -> None:
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
        head_weight, head_bias = (
            head_weight[units:] - head_weight[:units],
            head_bias[units:] - head_bias[:units],
        )
    undecided = [i for i, v in enumerate(values) if v is None]
    _copy(gates.heads[kind], head_weight[undecided], head_bias[undecided])  # type: ignore[arg-type]


def _blank(kind: type[Any], *shape: int) -> Any:
    """A layer whose weights are yet to come; a convolution may have no filter left at all, which torch warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return skip_init(kind, *shape)


def _copy(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)


def _spread(units: tuple[float | None, ...] | None, filters: int) -> list[float | None]:
    """One value a filter from one a unit."""
    if units is None:
        return [1.0] * filters
    return [units[f * len(units) // filters] for f in range(filters)]


def _unit_of(units: tuple[float | None, ...] | None, filters: int, kept: list[int]) -> list[int]:
    if units is None:
        return [-1] * len(kept)
    place = {u: i for i, u in enumerate(j for j, v in enumerate(units) if v is None)}
    return [place.get(f * len(units) // filters, -1) for f in kept]


def gate_taus(net: GatedResNet, knobs: Knobs) -> dict[str, float]:
    """The threshold of every gate by name."""
    if isinstance(knobs.tau, Mapping):
        return {gate.name: float(knobs.tau[gate.name]) for gate in net.gates}
    return {gate.name: float(knobs.tau) for gate in net.gates}


def rebuilt(config: GatedResNetConfig, task: Task, values: Mapping[str, Any]) -> DeployedResNet:
    """The network of an exported description, its weights still to be loaded."""
    settled = {b: {k: tuple(v) for k, v in kinds.items()} for b, kinds in values["settled"].items()}
    return DeployedResNet(config, task, settled, values["taus"])
