"""What an image takes in a network, from a table of units and from what the image ran: nothing is timed again.

A network's time is a call, the units that an image runs, each without its call, and a branch for each choice that the
image comes to. What units take alone is brought to what they take in a network, by the table's whole baselines.

Shapes: N images, W whole networks of the table, K early exits (K stands for the deepest head).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Any

import torch
from torch import Tensor

from search.latency.table import LatencyTable, MissingUnitsError
from search.latency.time_units import BRANCH
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Fixed
from spaces.contract.units import Guard, Ran, Unit, units_of
from spaces.deploy.generic import settled_gates
from spaces.deploy.onnx_branches import SMALLEST
from spaces.deploy.ship import ships_as_resnet

NEAR = 2.0  # times the time of a whole network
LEAST_MS = 1e-6
Order = tuple[int, ...] | None


@dataclass(frozen=True)
class Cost:
    """Milliseconds that an image pays which passed `exits` early exits, where the guard lets it."""

    ms: float
    exits: int
    guard: Guard | None


@dataclass(frozen=True)
class NetLatency:
    """The latency of one network on the machine of a table; in a cascade no network is shipped as a compact ResNet."""

    net: DynamicNet
    table: LatencyTable
    in_cascade: bool = False
    _units: dict[Order, tuple[Unit, ...]] = field(default_factory=dict)

    def of(self, knobs: Knobs, rates: Rates, ran: Ran) -> Tensor:
        """(N,) milliseconds of each image under the knobs, as the network would be shipped.

        `rates` are the gates' open rates, for those that never vary are removed. Of a table of batches, each image has
        its share of its batch, which runs what any of its images runs. Settings that draw at random are not shipped:
        they cost what everything open costs, pass by pass. Raises MissingUnitsError.
        """
        alone_N = torch.zeros(ran.images, dtype=torch.float64)
        for cost in self.costs(knobs, rates):
            alone_N += cost.ms * share_of_batches(_runs(cost, ran), self.table.batch)
        shares_N = whole_shares(self.table, alone_N * self.table.batch)
        total_N = self.table.call_ms / self.table.batch + alone_N * shares_N
        return total_N * (knobs.passes if knobs.policy == "ensemble" else 1)

    def costs(self, knobs: Knobs, rates: Rates) -> list[Cost]:
        """What there is to pay under the knobs, unit by unit, and the choices between them."""
        plan = self.plan(knobs, rates)
        missing = {u.key: u.words for u, _ in plan if u.key not in self.table.units}
        if missing:
            raise MissingUnitsError(missing)
        left = self._left(knobs, rates)
        found = [
            Cost(self.table.own_ms(unit.key) * left(unit), unit.exits, guard)
            for unit, guard in plan
        ]
        branch = self.table.own_ms(BRANCH)
        return [*found, *(Cost(branch, exits, None) for exits in self._choices(plan))]

    def plan(self, knobs: Knobs, rates: Rates) -> list[tuple[Unit, Guard | None]]:
        """The units of the network as it would be shipped, and which of its gates still decides about each."""
        fixed = self._fixed(knobs, rates)
        found = []
        for unit in self.units(knobs.keep):
            asked = [name for name in unit.asks if not _is_settled(fixed.get(name))]
            if (unit.asks and not asked) or (unit.leaving and knobs.exits() is None):
                continue
            guard, values = unit.guard, fixed.get(unit.guard.gate) if unit.guard else None
            if guard is not None and guard.settled not in (None, _is_settled(values)):
                continue
            if guard is not None and values is not None and values[0] is not None:
                if (values[0] > 0) is not guard.open:
                    continue
                guard = None
            found.append((unit, guard))
        return self._within_branches(found)

    def units(self, order: Order) -> tuple[Unit, ...]:
        """All units for a batch of the table's size."""
        if order not in self._units:
            self._units[order] = units_of(self._on_cpu, batch=self.table.batch, order=order)
        return self._units[order]

    @property
    def _is_compact(self) -> bool:
        return ships_as_resnet(self.net) and not self.in_cascade

    @cached_property
    def _on_cpu(self) -> DynamicNet:
        # keys are of the operations on a CPU
        return copy.deepcopy(self.net).cpu().eval()

    def _within_branches(
        self, plan: list[tuple[Unit, Guard | None]]
    ) -> list[tuple[Unit, Guard | None]]:
        """In ONNX a block with next to no work is computed for all, see spaces.deploy.onnx_branches."""
        if self.table.runtime != "onnxruntime" or self._is_compact:
            return plan
        small = {g.gate for u, g in plan if g is not None and g.open and u.macs < SMALLEST}
        return [(unit, None if g is not None and g.gate in small else g) for unit, g in plan]

    def _choices(self, plan: list[tuple[Unit, Guard | None]]) -> list[int]:
        """For each choice how many exits lie before it: of each gate that decides, and of each exit."""
        gates = {guard.gate: unit.exits for unit, guard in plan if guard is not None}
        by_confidence = [unit.exits for unit, _ in plan if unit.kind == "exit" and unit.leaving]
        return [*gates.values(), *by_confidence]

    def _fixed(self, knobs: Knobs, rates: Rates) -> Fixed:
        if knobs.random:
            return {gate.name: (1.0,) * gate.units for gate in self.net.gates}
        return settled_gates(self.net, knobs, rates)

    def _left(self, knobs: Knobs, rates: Rates) -> Callable[[Unit], float]:
        """The share of a unit that is shipped: ResNets are, without the filters that are closed for good."""
        if not self._is_compact:
            return lambda unit: 1.0
        fixed = self._fixed(knobs, rates)
        return lambda unit: 1.0 if unit.left is None else unit.left(fixed)


def share_of_batches(runs_N: Tensor, size: int) -> Tensor:
    """(N,) each image's share of what its batch of this size runs, which is what any of its images runs (N,)."""
    if size == 1:
        return runs_N.double()
    batches = [one.any().expand(len(one)) for one in runs_N.split(size)]
    return torch.cat(batches).double() / size


def _runs(cost: Cost, ran: Ran) -> Tensor:
    """(N,) bool: who pays it."""
    runs = torch.ones(ran.images, dtype=torch.bool)
    if ran.exit is not None:
        runs &= ran.exit >= cost.exits
    if cost.guard is not None and cost.guard.gate in ran.opened:
        runs &= ran.opened[cost.guard.gate] == cost.guard.open
    return runs


def _is_settled(values: Any) -> bool:
    return values is not None and all(one is not None for one in values)


def whole_shares(table: LatencyTable, alone_N: Tensor) -> Tensor:
    """(N,) what units take in a network, in shares of what they take alone, which is milliseconds (N,).

    That of the table's whole networks: the mean over them, weighted by how near they are in time (a normal distribution
    over the logarithm, NEAR is its deviation); 1 where the table has none. Large networks are nearer to their units.
    """
    known = table.whole_shares
    if not known:
        return torch.ones_like(alone_N)
    sizes_W, shares_W = torch.tensor(known, dtype=torch.float64).unbind(1)
    far_NW = (alone_N.clamp_min(LEAST_MS)[:, None].log() - sizes_W.log()) / log(NEAR)
    return (-0.5 * far_NW**2).softmax(1) @ shares_W


def latency_summary(latency_N: Tensor) -> dict[str, float]:
    """What an operating point keeps: mean, 95th percentile and maximum over images, in milliseconds."""
    p95 = torch.quantile(latency_N, 0.95, interpolation="higher")
    values = latency_N.mean(), p95, latency_N.max()
    return dict(
        zip(("latency_mean", "latency_p95", "latency_max"), map(float, values), strict=True)
    )
