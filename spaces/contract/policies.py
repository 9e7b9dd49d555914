"""How gates are decided in one forward pass.

A gate turns features into logits; a policy turns logits into decisions. Policies are plain values handed to the
forward call, so a network holds no run-time state.

Shapes: B samples, U units of a gate (1 for a layer gate, the number of filter groups for a channel gate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.noise import logistic_noise
from spaces.contract.units import Watch

REINFORCE = "reinforce"
Fixed = Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is known of a gate before any image: its name, what it guards, its place among all units."""

    name: str  # "block3.layer"
    kind: str  # "layer", "inner", "middle", "outer", or "exit" (open: the image goes on to what lies behind the exit)
    block: int
    units: int
    offset: int  # of its first unit among all units of the network
    macs: float  # that one open unit costs, the rest of its block open
    inclusive: bool = False  # whether a probability equal to the threshold opens it


@dataclass(frozen=True)
class Decision:
    """What one gate decided for each sample of a batch.

    `z_BU` multiplies what the gate guards: 0 or 1 with a straight-through gradient, or a soft value where the
    policy asks for one. `p_BU` is the noise-free probability of being open. `z_BU` and `p_BU` may have B = 1
    where the decision is the same for every sample.
    """

    gate: Gate
    z_BU: Tensor
    p_BU: Tensor | None
    asked: bool = True  # False: no image got to this gate

    @classmethod
    def for_all(cls, gate: Gate, values: Sequence[float], device: torch.device) -> Decision:
        """The same for every sample: one value a unit. Equal values are written on the device, none is copied there."""
        first = values[0]
        if all(value == first for value in values):
            z_1U = torch.full((1, len(values)), first, dtype=torch.float32, device=device)
        else:
            z_1U = torch.tensor([list(values)], dtype=torch.float32, device=device)
        return cls(gate, z_1U, None)

    @property
    def open_BU(self) -> Tensor:
        return self.z_BU.detach() > 0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Decides gates, exits and the order of layers in one forward pass.

    `fixed` maps a gate's name to one value a unit: 1 open, 0 closed, None decided per sample. `exits` is the rule by
    which images leave early (None: exits without a gate of their own are not evaluated). `order` are the layers to run,
    in this order, for networks whose layers can change places (None: all, as built). `survival` (B, L) of 0 and 1
    switches layers off for samples at random (stochastic depth in training). `branches`: in masked execution, what
    decides about a whole block or an exit is written as a choice between two values, which an exporter can turn into
    branches; the answers are the same. `watch` is shown each unit of the network as it runs (None: nobody watches).
    """

    fixed: Fixed = field(default_factory=dict)
    exits: ExitRule | None = None
    order: tuple[int, ...] | None = None
    survival: Tensor | None = None
    branches: bool = False
    watch: Watch | None = None

    def settled(self, gate: Gate) -> tuple[float, ...] | None:
        """The gate's values when none of its units is decided per sample (the gate need not be evaluated)."""
        values = self.fixed.get(gate.name)
        if values is None or any(v is None for v in values):
            return None
        return tuple(v for v in values if v is not None)

    def undecided(self, gate: Gate) -> tuple[int, ...]:
        """The units that are decided per sample."""
        values = self.fixed.get(gate.name, (None,) * gate.units)
        return tuple(unit for unit, value in enumerate(values) if value is None)

    def decide(self, gate: Gate, logit_BU: Tensor, rows: Tensor | None = None) -> Decision:
        """Decisions from logits; `rows` are the batch positions of the logits' samples when not all are there."""
        p_BU = torch.sigmoid(logit_BU)
        z_BU = self._z(gate, logit_BU, p_BU, rows)
        values = self.fixed.get(gate.name)
        if values is not None and any(v is not None for v in values):
            known_U = torch.tensor([float("nan") if v is None else v for v in values]).to(z_BU)
            z_BU = torch.where(known_U.isnan(), z_BU, known_U.nan_to_num())
        return Decision(gate, z_BU, p_BU)

    def _z(self, gate: Gate, logit_BU: Tensor, p_BU: Tensor, rows: Tensor | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} decides nothing")


@dataclass(frozen=True, kw_only=True)
class Threshold(Policy):
    """Open where the probability is above tau (strictly, but for inclusive gates); one tau, or one a gate by name."""

    tau: float | Mapping[str, float | Tensor] = 0.5

    def _z(self, gate: Gate, logit_BU: Tensor, p_BU: Tensor, rows: Tensor | None) -> Tensor:
        tau = self.tau if isinstance(self.tau, int | float) else self.tau[gate.name]
        if isinstance(tau, Tensor):
            tau = tau.to(p_BU.dtype)
        return (p_BU >= tau if gate.inclusive else p_BU > tau).to(logit_BU.dtype)


@dataclass(frozen=True, kw_only=True)
class AlwaysOn(Policy):
    """Every gate open, without evaluating it."""

    def settled(self, gate: Gate) -> tuple[float, ...]:
        return (1.0,) * gate.units


@dataclass(frozen=True, kw_only=True)
class ScaledOn(Policy):
    """Every gate open, what it guards multiplied by the gate's mean open rate.

    The test-time rule of stochastic depth (Huang, Sun, Liu, Sedra and Weinberger, "Deep Networks with Stochastic
    Depth", ECCV, 2016) with measured rates in place of survival probabilities.
    """

    rates: Mapping[str, tuple[float, ...]]

    def settled(self, gate: Gate) -> tuple[float, ...]:
        return tuple(self.rates[gate.name])


@dataclass(frozen=True, kw_only=True)
class Sampled(Policy):
    """Decisions drawn per sample by a binary-concrete estimator, as in training.

    `estimator`: "gumbel_st" (hard sample forward, gradient of the relaxed sample), "st" (threshold 1/2 forward,
    gradient of the probability, no noise), "soft_then_hard" (the relaxed sample itself), "reinforce" (hard sample
    without a gradient: whoever uses it rewards the draw). Logistic noise on one logit equals in law the two-logit
    Gumbel-softmax of Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018. Noise is
    keyed by (seed, step, id), see spaces.contract.noise.
    """

    seed: int
    step: int
    ids_B: Tensor
    units: int  # of all gates of the network together
    temperature: float = 1.0
    estimator: str = "gumbel_st"
    noisy: bool = True

    @cached_property
    def noise_BT(self) -> Tensor:
        return logistic_noise(self.seed, self.step, self.ids_B, self.units)

    def _z(self, gate: Gate, logit_BU: Tensor, p_BU: Tensor, rows: Tensor | None) -> Tensor:
        if self.estimator == "st" or not self.noisy:
            noisy_BU = logit_BU
        else:
            noise_BU = self.noise_BT[:, gate.offset : gate.offset + gate.units]
            noisy_BU = logit_BU + (noise_BU if rows is None else noise_BU[rows]).to(logit_BU.dtype)
        temperature = 1.0 if self.estimator == "st" else self.temperature
        soft_BU = torch.sigmoid(noisy_BU / temperature)
        if self.estimator == "soft_then_hard":
            return soft_BU
        hard_BU = noisy_BU >= 0 if gate.inclusive else noisy_BU > 0
        if self.estimator == REINFORCE:
            return hard_BU.to(soft_BU.dtype)
        return straight_through(hard_BU.to(soft_BU.dtype), soft_BU)


@dataclass(frozen=True, kw_only=True)
class Drawn(Sampled):
    """Decides by noise (B, T) that was drawn before."""

    drawn: Tensor

    @property
    def noise_BT(self) -> Tensor:
        return self.drawn


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Exactly `hard` forward, the gradient of `soft` backward.

    The order of the sum matters: hard + soft - soft.detach() rounds, this does not.
    """
    return (hard - soft).detach() + soft
