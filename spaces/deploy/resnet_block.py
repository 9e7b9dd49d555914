"""One block of a deployed ResNet: settled gates and closed filters are cut out, what decides per image is skipped.

Shapes: B images, V units that are decided per image, C filters kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from spaces.backbones.resnet import Block, skip_path
from spaces.contract.compute import conv_macs, linear_macs
from spaces.gates.gate_heads import GateHeads

Units = tuple[
    float | None, ...
]  # of a gate: a value that holds for every image, None decided per image
Settled = Mapping[str, Units]  # of a block, by kind of gate
Taus = Mapping[str, Any]  # of a block, by kind of gate: a number, or a tensor without dimensions
KINDS = ("layer", "inner", "outer")


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
                name: blank_layer(nn.Linear, inputs, hidden)
                for name in dict.fromkeys(self.trunk_of.values())
            }
        )
        self.heads = nn.ModuleDict(
            {kind: blank_layer(nn.Linear, hidden, n) for kind, n in units.items()}
        )

    def open_units(self, kind: str, pooled: Tensor, tau: float | Tensor) -> Tensor:
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
    """One block, with a shortcut or without.

    `settled` gives each gate kind's units: 0 or 1 or a scale for good, None decided per image.
    conv1 keeps the filters that may open (`kept_inner`), conv2 their columns and the output filters that may open
    (`kept_outer`). `gates` are those that still decide, each open above a threshold.
    """

    def __init__(
        self,
        template: Block,
        size: tuple[int, int],
        heads: GateHeads | None,
        settled: Settled,
    ) -> None:
        super().__init__()
        filters = template.conv1.out_channels
        self.size, self.filters = size, filters
        self.stride, self.extra = template.stride, template.extra
        self.identity, self.summed = template.identity, template.summed
        inner = value_by_filter(settled.get("inner"), filters)
        outer = value_by_filter(settled.get("outer"), filters)
        self.kept_inner = [f for f in range(filters) if inner[f] != 0]
        self.kept_outer = [f for f in range(filters) if outer[f] != 0]
        self.closed = settled.get("layer") == (0.0,) or not self.kept_outer
        inputs = template.conv1.in_channels
        self.shortcut: nn.Conv2d | None = None
        if template.shortcut is not None:
            self.shortcut = blank_layer(nn.Conv2d, inputs, filters, 1, self.stride)
        if self.closed:
            return
        self.conv1 = blank_layer(nn.Conv2d, inputs, len(self.kept_inner), 3, self.stride, 1)
        self.conv2 = blank_layer(nn.Conv2d, len(self.kept_inner), len(self.kept_outer), 3, 1, 1)
        counts = {kind: sum(v is None for v in values) for kind, values in settled.items()}
        undecided = {kind: count for kind, count in counts.items() if count}
        self.gates: BlockGates | None = None
        if undecided:
            assert heads is not None
            own_trunk = "channel" if heads.separate else "shared"
            trunk_of = {kind: "shared" if kind == "layer" else own_trunk for kind in undecided}
            self.gates = BlockGates(heads.channels, heads.hidden, trunk_of, undecided)
        # for each kept filter: which undecided unit guards it, or -1 where it is always open
        self.inner_unit = _unit_of(settled.get("inner"), filters, self.kept_inner)
        self.outer_unit = _unit_of(settled.get("outer"), filters, self.kept_outer)

    def skip(self, u: Tensor) -> Tensor:
        return skip_path(u, self.shortcut, self.stride, self.extra)

    def decides(self, kind: str) -> bool:
        """Whether the gate of this kind depends on the image."""
        return not self.closed and self.gates is not None and kind in self.gates.heads

    def forward(self, u: Tensor, source: Tensor, taus: Taus) -> tuple[Tensor, Tensor]:
        """The block's output and the MACs (B,) that each image took.

        `source` (B, C, H, W) is what the gates read, `taus` are the thresholds of those that decide, by kind.
        """
        skip_macs = float(self.skip_macs)
        macs_B = torch.full((len(u),), skip_macs, dtype=torch.float64, device=u.device)
        if self.closed:
            return self._without(u), macs_B
        rows = None
        if self.decides("layer"):
            assert self.gates is not None
            macs_B += self.gates.macs(("layer",))
            open_B = self.gates.open_units("layer", source.mean((2, 3)), taus["layer"])[:, 0]
            if len(u) == 1:
                if not open_B.item():
                    return self._without(u), macs_B
            elif not bool(open_B.all()):
                rows = open_B.nonzero()[:, 0]
                if not len(rows):
                    return self._without(u), macs_B
        chosen = u if rows is None else u[rows]
        pooled_source = source if rows is None else source[rows]
        residual, cost = self._residual(chosen, pooled_source, taus)
        macs_B = macs_B + cost if rows is None else macs_B.index_add(0, rows, cost)
        if rows is None:
            return self._opened(u, residual), macs_B
        return F.relu(self.skip(u).index_add(0, rows, residual)), macs_B

    def masked(self, u: Tensor, source: Tensor, taus: Taus) -> tuple[Tensor, Tensor]:
        """What `forward` gives, with open and closed computed for every image: the form that exporters can trace."""
        macs_B = u.new_full((u.shape[0],), float(self.skip_macs), dtype=torch.float64)
        if self.closed:
            return self._without(u), macs_B
        residual, cost_B = self._residual(u, source, taus, alone=False)
        opened = self._opened(u, residual)
        if not self.decides("layer"):
            return opened, macs_B + cost_B
        assert self.gates is not None
        open_B = self.gates.open_units("layer", source.mean((2, 3)), taus["layer"])[:, 0]
        spent_B = torch.where(open_B, cost_B, torch.zeros_like(macs_B))
        macs_B = macs_B + self.gates.macs(("layer",)) + spent_B
        return torch.where(open_B[:, None, None, None], opened, self._without(u)), macs_B

    def _opened(self, u: Tensor, residual: Tensor) -> Tensor:
        return F.relu(self.skip(u) + residual if self.summed else residual)

    def _without(self, u: Tensor) -> Tensor:
        if not self.summed:
            return u.new_zeros(u.shape[0], self.filters, *self.size)
        return u if self.identity else F.relu(self.skip(u))

    def _residual(
        self, u: Tensor, source: Tensor, taus: Taus, *, alone: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The residual of every image of u, and the MACs (B,) of its open filters and of the gates that opened them.

        `alone`: of a single image, only open filters are computed.
        """
        masks = self._masks(source, taus)
        gate_macs = 0
        if self.gates is not None:
            gate_macs = self.gates.macs(("inner", "outer"), paid=("layer",))
        inner, outer = masks.get("inner"), masks.get("outer")
        n_inner = _open_filters(inner, self.conv1)
        n_outer = _open_filters(outer, self.conv2)
        pixels = 9 * self.size[0] * self.size[1]
        # with no filter of the last convolution open, the first has no reader and is not run either
        first = n_inner * (pixels * self.conv1.in_channels) * (torch.as_tensor(n_outer) > 0)
        cost = first + n_inner * n_outer * pixels + gate_macs
        cost_B = cost.double().to(u.device).expand(u.shape[0])
        if alone and u.shape[0] == 1 and masks:
            return self._of_one_image(u, inner, outer), cost_B
        r = self._convolved(u, inner)
        r = r if outer is None else r * outer[:, :, None, None].to(r.dtype)
        return self._placed(r), cost_B

    def _convolved(self, u: Tensor, inner: Tensor | None) -> Tensor:
        if not self.kept_inner:  # nothing but the second batch norm's shift is left of the residual
            return self.conv2.bias[None, :, None, None].expand(u.shape[0], -1, *self.size)
        h = F.relu(self.conv1(u))
        return self.conv2(h if inner is None else h * inner[:, :, None, None].to(h.dtype))

    def _of_one_image(self, u: Tensor, inner: Tensor | None, outer: Tensor | None) -> Tensor:
        """The residual of a single image: only open rows and columns of the convolutions are read."""
        weight1, bias1 = self.conv1.weight, self.conv1.bias
        weight2, bias2 = self.conv2.weight, self.conv2.bias
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

    def _masks(self, source: Tensor, taus: Taus) -> dict[str, Tensor]:
        """Which of the kept filters are open, (B, C) bool, by gate kind that decides."""
        masks: dict[str, Tensor] = {}
        for kind, unit_of in (("inner", self.inner_unit), ("outer", self.outer_unit)):
            if self.decides(kind):
                assert self.gates is not None
                open_BV = self.gates.open_units(kind, source.mean((2, 3)), taus[kind])
                always = open_BV.new_ones(open_BV.shape[0], 1)
                # -1 picks the last column
                masks[kind] = torch.cat([open_BV, always], 1)[:, unit_of]
        return masks

    def _placed(self, r: Tensor) -> Tensor:
        if len(self.kept_outer) == self.filters:
            return r
        places = torch.tensor(self.kept_outer, device=r.device)
        return r.new_zeros(r.shape[0], self.filters, *r.shape[2:]).index_copy(1, places, r)

    @property
    def skip_macs(self) -> int:
        """MACs of the shortcut, which runs whether the block is open or not."""
        return conv_macs(self.shortcut, *self.size) if self.shortcut is not None else 0


def _open_filters(mask: Tensor | None, conv: nn.Conv2d) -> Tensor | float:
    """(B,) how many filters of the convolution are open; where none is decided, all of them."""
    return float(conv.out_channels) if mask is None else mask.sum(1, dtype=torch.float64)


def blank_layer(kind: type[Any], *shape: int) -> Any:
    """A layer whose weights are yet to come; a convolution may have no filter left at all, which torch warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return skip_init(kind, *shape)


def value_by_filter(units: Units | None, filters: int) -> list[float | None]:
    """One value a filter from one a unit."""
    if units is None:
        return [1.0] * filters
    return [units[f * len(units) // filters] for f in range(filters)]


def _unit_of(units: Units | None, filters: int, kept: list[int]) -> list[int]:
    if units is None:
        return [-1] * len(kept)
    place = {u: i for i, u in enumerate(j for j, v in enumerate(units) if v is None)}
    return [place.get(f * len(units) // filters, -1) for f in kept]
