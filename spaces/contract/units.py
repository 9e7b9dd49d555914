"""The units that a network runs: stem, blocks, gates, exits and head as functions of tensors, and who runs each.

A family marks its units where its forward pass runs them (`Walk.mark`). One pass with somebody watching then gives all
of them, with the shapes of their inputs. Equal units of different networks have the same `key`, so that one
measurement serves all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spaces.contract.exit_rules import ExitRule

if TYPE_CHECKING:
    from spaces.contract.net import DynamicNet, Output
    from spaces.contract.policies import Fixed

KEY_LENGTH = 12  # hexadecimal digits
WHOLE = "network"


@dataclass(frozen=True)
class Guard:
    """An image runs a unit where this gate is open, or where it is closed.

    `settled`: only in networks where the gate is settled for good, or only in those where it is not; None: in either.
    """

    gate: str
    open: bool
    settled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """`run(*inputs)` computes the unit.

    `exits`: an image runs the unit where it did not leave at one of that many early exits. `guard`: only where the gate
    says so. `asks` are the gates that it decides: once they are settled, nobody runs it. `leaving`: it is the head of
    an exit that is decided by confidence, which nobody runs where images do not leave. `parts`: it is a whole network,
    made of the units with these keys. `left`: the share of its MACs that is computed where channels whose gates (by
    name) are closed for good are cut out of its weights; CPUs compute channels in groups.
    """

    kind: str
    run: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    macs: float = 0.0
    exits: int = 0
    guard: Guard | None = None
    asks: tuple[str, ...] = ()
    leaving: bool = False
    parts: tuple[str, ...] = ()
    left: Callable[[Fixed], float] | None = None

    @cached_property
    def key(self) -> str:
        """Equal for units that compute alike on inputs of equal shapes, whatever their weights are."""
        log = _Log()
        with torch.no_grad(), log:
            self.run(*self.inputs)
        text = json.dumps([[list(one.shape) for one in self.inputs], log.lines])
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    @property
    def words(self) -> str:
        """The kind and the shapes of the inputs: "block 16x32x32"; of a whole network also how large it is."""
        sizes = ["x".join(map(str, one.shape[1:])) or "1" for one in self.inputs]
        size = f" of {self.macs / 1e6:.3g} M MACs" if self.parts else ""
        return f"{self.kind} {' + '.join(sizes)}{size}"


@dataclass(frozen=True)
class Ran:
    """What decided which units each of N images ran.

    `opened`: by gate of one unit (N,) bool, whether it was open. `exit` (N,): which exit answered; None: nobody left.
    """

    images: int
    opened: Mapping[str, Tensor] = field(default_factory=dict)
    exit: Tensor | None = None

    @classmethod
    def of(cls, output: Output) -> Ran:
        """Of the images of one forward pass."""
        images = len(output.logits_BC)
        opened = {
            decision.gate.name: decision.open_BU[:, 0].expand(images).cpu()
            for decision in output.decisions
            if decision.gate.units == 1
        }
        exit = None if output.exits is None else output.exits.index_B.cpu()
        return cls(images, opened, exit)

    @classmethod
    def joined(cls, parts: Sequence[Ran]) -> Ran:
        """Of the images of several passes of one network, one after another."""
        first = parts[0]
        opened = {name: torch.cat([one.opened[name] for one in parts]) for name in first.opened}
        exits = [one.exit for one in parts if one.exit is not None]
        return cls(sum(one.images for one in parts), opened, torch.cat(exits) if exits else None)


@dataclass(frozen=True)
class Watch:
    """Keeps the units that one forward pass marks, in order."""

    units: list[Unit] = field(default_factory=list)


@torch.no_grad()
def units_of(
    net: DynamicNet, *, batch: int = 1, order: tuple[int, ...] | None = None
) -> tuple[Unit, ...]:
    """All units of the network (put in eval mode) in the order in which they run, for a batch of this size.

    `order` are the layers to run, of networks whose layers can be left out. A family that marks none has one unit, the
    whole network with everything open.
    """
    from spaces.contract.policies import Threshold

    device = next(net.parameters()).device
    task, watch = net.task, Watch()
    images = torch.zeros(batch, task.channels, task.height, task.width, device=device)
    by_gate = any(gate.kind == "exit" for gate in net.gates)
    rule = ExitRule(every=True) if net.exit_count and not by_gate else None
    net.eval()
    net(images, Threshold(tau=0.5, exits=rule, order=order, watch=watch))
    if watch.units:
        return (_pixels(net, images), *watch.units)
    return (Unit(kind=WHOLE, run=lambda one: net(one).logits_BC, inputs=(images,)),)


def whole_unit(net: DynamicNet, units: Sequence[Unit], *, batch: int = 1) -> Unit:
    """A static network, which runs all of these units, as one: from pixels to logits."""
    from spaces.contract.policies import AlwaysOn

    task = net.task
    images = torch.zeros(batch, task.channels, task.height, task.width)
    normalized = _pixels(net, images).run
    return Unit(
        kind=WHOLE,
        run=lambda pixels: net(normalized(pixels), AlwaysOn()).logits_BC,
        inputs=(images,),
        macs=sum(unit.macs for unit in units),
        parts=tuple(unit.key for unit in units),
    )


def _pixels(net: DynamicNet, images: Tensor) -> Unit:
    """The normalisation of pixels, which a network to ship does itself."""
    mean, std = (
        torch.tensor(one, device=images.device)[:, None, None]
        for one in (net.task.mean, net.task.std)
    )
    return Unit(kind="pixels", run=lambda pixels: (pixels - mean) / std, inputs=(images,))


class _Log(TorchDispatchMode):
    """Writes down each operation with the shapes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        shown = [_shown(args), _shown({k: v for k, v in given.items() if k != "device"})]
        self.lines.append(f"{func} {shown}")
        return func(*args, **given)


def _shown(value: Any) -> Any:
    if isinstance(value, Tensor):
        return list(value.shape)
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    return str(value)
