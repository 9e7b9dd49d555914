"""A block that gates may close: what it says of itself, and the units that it is timed as.

Shapes: B images, C channels, H x W pixels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn

from spaces.contract.forward_pass import Walk
from spaces.contract.policies import Decision, Fixed
from spaces.contract.units import Guard

Found = dict[str, Decision]
REGISTER = 16  # channels that CPUs compute at once, zeros where there are fewer: float32 in AVX-512


class Closable:
    """A block as its gates see it: a family says here what its block is.

    `inputs` channels come in, `identity` says whether the block keeps their shape, and `skippable` whether a layer
    gate may close it. `channels` says how many channels the channel gate of each kind closes, in the order in which
    these gates are asked. `shortcut_macs` are paid by every image, also where the block is closed. `size` is the height
    and width of what comes in, for gates that have convolutions.
    """

    inputs: int
    size = (1, 1)
    identity = True
    skippable = True
    channels: Mapping[str, int] = {}
    shortcut_macs = 0

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        """What the block computes of u; `masks` (B or 1, channels) are of the kinds of `channels`, None: all open."""
        raise NotImplementedError

    def compact_residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        """The same, closed channels left out of the computation."""
        return self.residual(u, *masks)

    def closed(self, u: Tensor) -> Tensor:
        """What goes on where the block is closed."""
        raise NotImplementedError

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        """What goes on: u with the residual, where it was computed.

        `residual()` computes it, for the images `rows` (None: for all). `z` (1 or as many, 1) says of each of them how
        far the block is open; None: fully.
        """
        raise NotImplementedError

    def masked(self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None) -> Tensor:
        """`joined` for all images, as in training; a block overrides it that can do so in fewer steps."""
        return self.joined(u, residual, z, None)

    def source(self, u: Tensor) -> Tensor:
        """(B, C, H, W) the maps of u that gates read."""
        return u

    def open_parts(self) -> Iterable[nn.Module]:
        """What runs only where the block is open."""
        return ()

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> Tensor | float:
        """MACs of the residual with so many channels of each kind open."""
        raise NotImplementedError

    def guarded_macs(self) -> Mapping[str, int]:
        """MACs that the gates of each kind guard together; "layer" is the kind that closes the block."""
        raise NotImplementedError


def mark_block(block: Closable, u: Tensor, found: Found, walk: Walk) -> None:
    """Show the block as a unit, and where a gate may close it, what is done then as another one."""
    if walk.policy.watch is None:
        return
    given = [None if mask is None else mask.to(u.dtype) for mask in masks_of(block, found)]
    masks = [mask for mask in given if mask is not None]
    layer = found.get("layer")

    def run(u: Tensor, *masks: Tensor) -> Tensor:
        left = iter(masks)
        taken = [None if one is None else next(left) for one in given]
        return block.masked(u, partial(block.residual, u, *taken), None)

    def chosen(u: Tensor, z: Tensor, *masks: Tensor) -> Tensor:
        made = run(u, *masks)
        return torch.where(z > 0, made, torch.zeros_like(made))

    macs = float(block.macs({kind: float(n) for kind, n in block.channels.items()}))
    macs += block.shortcut_macs
    left = partial(_share_left, block, {kind: one.gate.name for kind, one in found.items()})
    if layer is None:
        walk.mark("block", run, u, *masks, macs=macs, left=left)
        return
    name, z = layer.gate.name, layer.z_BU.reshape(-1, *(1,) * (u.ndim - 1)).to(u.dtype)
    undecided, open_for_good = (Guard(name, open=True, settled=one) for one in (False, True))
    walk.mark("block", chosen, u, z, *masks, macs=macs, guard=undecided, left=left)
    walk.mark("block", run, u, *masks, macs=macs, guard=open_for_good, left=left)
    walk.mark("closed block", block.closed, u, guard=Guard(name, open=False))


def _share_left(block: Closable, gates: Mapping[str, str], fixed: Fixed) -> float:
    """The share of the block's MACs that is computed without the channels closed for good; `gates` by kind."""
    whole = {kind: float(n) for kind, n in block.channels.items()}
    left = {
        kind: _computed(fixed.get(gates.get(kind, "")), n) for kind, n in block.channels.items()
    }
    macs, all_macs = float(block.macs(left)), float(block.macs(whole))
    return (macs + block.shortcut_macs) / (all_macs + block.shortcut_macs)


def _computed(units: Sequence[float | None] | None, channels: int) -> float:
    """How many channels are computed: those whose units are not closed for good, filled up to whole registers."""
    if units is None:
        return float(channels)
    open_units = sum(value != 0 for value in units)
    return float(min(channels, REGISTER * ceil(open_units * channels / len(units) / REGISTER)))


def masks_of(block: Closable, found: Found) -> list[Tensor | None]:
    """For each kind of channel gate (B or 1, channels) one value a channel from one a group; None: all open."""
    masks: list[Tensor | None] = []
    for kind, channels in block.channels.items():
        decision = found.get(kind)
        group = 0 if decision is None else channels // decision.gate.units
        masks.append(None if decision is None else decision.z_BU.repeat_interleave(group, dim=1))
    return masks
