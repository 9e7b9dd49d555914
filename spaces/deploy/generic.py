"""A trained dynamic network of any family made ready to ship: knobs set, normalisation inside, unused parts removed.

What it computes is only what is open: gates, exits and kept layers are run in compact execution.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spaces.contract.exit_rules import ExitRule, answered
from spaces.contract.knobs import Knobs, Rates, collapsed_gates
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Fixed, Policy
from spaces.contract.task import Task
from spaces.deploy.thresholds import (
    Values,
    is_exit,
    policy_at,
    settled_by_all,
    thresholds_of,
)

Settings = Sequence[tuple[Knobs, Rates]]  # knobs, and the open rates that they were measured with


class Deployed(nn.Module):
    """A classifier of pixels in [0, 1] around a trained network, its knobs and the gates settled for good."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(
        self, net: DynamicNet, knobs: Knobs, fixed: Fixed, ends_at: int | None = None
    ) -> None:
        """`ends_at`: the exit at which all images have left, whatever thresholds are given; None: there is none."""
        super().__init__()
        self.task: Task = net.task
        self.net, self.knobs, self.fixed = net, knobs, dict(fixed)
        self.register_buffer("mean", torch.tensor(net.task.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(net.task.std)[:, None, None], persistent=False)
        self.policy = settled_policy(net, knobs, fixed)
        self.thresholds = thresholds_of(net.gates, knobs, fixed)
        self.ends_at = ends_at
        self.unneeded = tuple(net.unneeded(_cut_at(self.policy, ends_at)))
        for name in self.unneeded:
            _empty(net.get_submodule(name))
        self.register_load_state_dict_pre_hook(_without_unneeded)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, C) of pixels (B, channels, H, W) in [0, 1]."""
        return self.run(pixels)[0]

    def run(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and the MACs (B,) that each image took; `thresholds` (T,) are other ones than its own."""
        policy = self._policy(thresholds)
        output = self.net((pixels - self.mean) / self.std, policy, compact=True)
        return output.logits_BC, output.macs_B

    def masked(self, pixels: Tensor, thresholds: Values | None = None) -> tuple[Tensor, Tensor]:
        """What `run` gives, with everything computed and chosen afterwards: the form that exporters can trace."""
        policy = replace(self._policy(thresholds), branches=True)
        output = self.net((pixels - self.mean) / self.std, policy)
        return output.logits_BC, output.macs_B.expand(pixels.shape[0])

    def run_at_each(
        self, pixels: Tensor, settings: Sequence[Values]
    ) -> list[tuple[Tensor, Tensor]]:
        """What `run` gives at each of these thresholds (T,).

        Those at which all gates have the same thresholds share a pass in which no image leaves.
        """
        named = list(self.thresholds)
        gates = [
            tuple(v for n, v in zip(named, one, strict=True) if not is_exit(n)) for one in settings
        ]
        passes: dict[tuple[Any, ...], Sequence[Any]] = {}
        found = []
        for own, values in zip(gates, settings, strict=True):
            rule = self._policy(values).exits
            if rule is None or gates.count(own) == 1:
                found.append(self.run(pixels, values))
                continue
            if own not in passes:
                passes[own] = self.every_exit(pixels, values)
            found.append(answered(rule, *passes[own]))
        return found

    def every_exit(
        self, pixels: Tensor, thresholds: Values | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Logits (B, C) of each exit and of the network's own head, and the MACs (B,) of an image that leaves there.

        The last one is that of the exit at which all images leave, where the network ends there. `thresholds` (T,) are
        those of gates; exits ignore theirs.
        """
        policy = replace(_cut_at(self._policy(thresholds), self.ends_at), branches=True)
        if self.ends_at is None:
            policy = replace(policy, exits=ExitRule(every=True))
        found = self.net((pixels - self.mean) / self.std, policy).exits
        return found.logits, found.macs

    def _policy(self, thresholds: Values | None) -> Policy:
        if thresholds is None:
            return self.policy
        return ended_at(policy_at(self.policy, self.thresholds, thresholds), self.ends_at)

    def description(self) -> dict[str, Any]:
        """What must be known beside config and weights to build it again."""
        ends = {} if self.ends_at is None else {"ends_at": self.ends_at}
        return {"deployed": "generic", "knobs": self.knobs.as_dict(), "fixed": self.fixed} | ends

    @property
    def dynamic(self) -> bool:
        """Whether what is computed depends on the image: a gate decides, or images leave at an exit."""
        leaves = self.net.exit_count > 0 and self.policy.exits is not None and self.ends_at != 0
        return leaves or self.gate_counts()["dynamic"] > 0

    def gate_counts(self) -> dict[str, int]:
        """Gate units that decide per image, and those that were settled open and closed."""
        return gate_counts(
            v for gate in self.net.gates for v in self.fixed.get(gate.name, (None,) * gate.units)
        )


def _empty(unneeded: nn.Module) -> None:
    """Take its weights away; its sizes, which costs are told by, stay."""
    for module in unneeded.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.track_running_stats = False  # loading would put a counter in
        for name in list(module._parameters):
            module.register_parameter(name, None)
        for name in list(module._buffers):
            module.register_buffer(name, None)


def _without_unneeded(module: Deployed, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out the weights that nothing needs: exports by older versions hold more of them."""
    parts = tuple(f"{prefix}net.{name}." for name in module.unneeded)
    for key in [key for key in state if key.startswith(parts)]:
        del state[key]


def gate_counts(units: Iterable[float | None]) -> dict[str, int]:
    """How many of these units decide per image (None), and how many were settled open and closed."""
    values = list(units)
    return {
        "dynamic": sum(v is None for v in values),
        "removed_open": sum(v is not None and v > 0 for v in values),
        "removed_closed": sum(v == 0 for v in values),
    }


def settled_gates(
    net: DynamicNet, knobs: Knobs, rates: Rates
) -> dict[str, tuple[float | None, ...]]:
    """By gate, the units' values that hold for every image under the knobs; None decides per image.

    A threshold settles gates that never (or always) opened on validation; with `knobs.prune` also those that nearly
    never did. Raises ValueError for settings that draw at random.
    """
    if knobs.random:
        raise ValueError(
            f"a point with {_random_part(knobs)} draws at random and cannot be exported"
        )
    if knobs.policy == "always_on":
        return {gate.name: (1.0,) * gate.units for gate in net.gates}
    if knobs.policy == "scaled_on":
        return {gate.name: tuple(rates[gate.name]) for gate in net.gates}
    if knobs.prune is None and not net.settles_exactly:
        return {}
    own = {gate.name: tuple(rates[gate.name]) for gate in net.gates}
    fixed = dict(collapsed_gates(own, knobs.prune or 0.0))
    # a rate of 0 may mean that no image got so far
    if any(gate.kind == "exit" for gate in net.gates):
        return {name: tuple(v if v else None for v in units) for name, units in fixed.items()}
    return fixed


def settled_policy(net: DynamicNet, knobs: Knobs, fixed: Fixed) -> Policy:
    """The knobs' policy with these gates settled."""
    rates: Mapping[str, tuple[float, ...]] = {
        name: tuple(0.5 if v is None else v for v in values) for name, values in fixed.items()
    }
    policy = net.knobs_policy(replace(knobs, prune=None), ids=torch.arange(1), rates=rates)
    return replace(policy, fixed=dict(fixed)) if knobs.policy == "threshold" else policy


def common_end(settings: Sequence[Knobs]) -> int | None:
    """The exit at which all images have left at every one of these settings; None where some go to the end."""
    ends = [None if (rule := knobs.exits()) is None else rule.ends_at for knobs in settings]
    return None if None in ends else max(end for end in ends if end is not None)


def ended_at(policy: Policy, exit: int | None) -> Policy:
    """The policy with a threshold at this exit that lets all images leave; None changes nothing."""
    if exit is None or policy.exits is None:
        return policy
    levels = list(policy.exits.thresholds)
    levels[exit] = -1.0
    return replace(policy, exits=replace(policy.exits, thresholds=tuple(levels)))


def _cut_at(policy: Policy, exit: int | None) -> Policy:
    """The policy with thresholds by which no image leaves before this exit and all do there; None: all stay."""
    if policy.exits is None:
        return policy
    levels = tuple(-1.0 if k == exit else 1.0 for k in range(len(policy.exits.thresholds)))
    return replace(policy, exits=replace(policy.exits, thresholds=levels))


def needed_parameters(net: DynamicNet, knobs: Knobs, rates: Rates) -> int:
    """Parameters of the network without the parts that its export under these knobs leaves out.

    What an export cuts out of single blocks is counted: closed blocks and filters of ResNets are not left out here.
    """
    unused: tuple[str, ...] = ()
    if not knobs.random:
        policy = settled_policy(net, knobs, settled_gates(net, knobs, rates))
        names = net.unneeded(_cut_at(policy, common_end([knobs])))
        unused = tuple(f"{name}." for name in names)
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith(unused))


def deploy(net: DynamicNet, settings: Settings) -> Deployed:
    """A copy of the trained network under the first setting's knobs, in eval mode.

    What is settled is so at every setting: the thresholds of the others can be given to `run`.
    """
    ends_at = common_end([knobs for knobs, _ in settings])
    return Deployed(copy.deepcopy(net).eval(), settings[0][0], settled(net, settings), ends_at)


def settled(net: DynamicNet, settings: Settings) -> dict[str, tuple[float | None, ...]]:
    """What `settled_gates` finds at every one of these settings alike."""
    return settled_by_all([settled_gates(net, knobs, rates) for knobs, rates in settings])


def rebuild(net: DynamicNet, values: Mapping[str, Any]) -> Deployed:
    """The network of an exported description, its weights still to be loaded."""
    fixed = {name: tuple(units) for name, units in values["fixed"].items()}
    return Deployed(net, Knobs(**values["knobs"]), fixed, values.get("ends_at"))


def _random_part(knobs: Knobs) -> str:
    if knobs.order == "arbitrary":
        return "an arbitrary order of layers"
    return f"policy {knobs.policy}"
