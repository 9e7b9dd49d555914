"""The contract of every family: a network whose compute depends on the image.

Shapes: B images, C classes, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.exit_rules import ExitRule
from spaces.contract.noise import permutation
from spaces.contract.policies import (
    AlwaysOn,
    Decision,
    Fixed,
    Gate,
    Policy,
    Sampled,
    ScaledOn,
    Threshold,
)
from spaces.contract.task import Task

ORDERS = ("sequential", "arbitrary")
POLICIES = ("threshold", "always_on", "scaled_on", "stochastic", "ensemble")
Rates = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Run-time settings of a trained network; none of them needs training.

    policy: threshold (open above tau), always_on, scaled_on (always on, scaled by mean rates), stochastic (each gate
    drawn with its probability), ensemble (mean probability of `passes` stochastic passes).
    tau: one threshold, or one a gate by name. prune: gates whose open rate is within this of 0 or 1 are settled
    for good; None keeps all. recalibrate: batch-norm statistics refreshed on training images before use, with
    gates "sample"d as in training or deciding the "same" as at inference. exit_*, fallback: see ExitRule; "none"
    leaves exits without a gate unused, "every" evaluates all of them and lets nobody leave. order: of layers that can
    change places, sequential, or arbitrary (a new one each pass, for the whole batch). keep: the layers that are run,
    None for all.
    """

    policy: str = "threshold"
    tau: float | Mapping[str, float] = 0.5
    passes: int = 1
    prune: float | None = None
    recalibrate: str = "none"
    recalibration_batches: int = 0
    exit_rule: str = "none"
    exit_thresholds: tuple[float, ...] = ()
    exit_temperatures: tuple[float, ...] = ()
    exit_judges: tuple[tuple[float, ...], ...] = ()
    fallback: str = "deepest"
    order: str = "sequential"
    keep: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("exit_thresholds", "exit_temperatures", "exit_judges", "keep"):
            if isinstance(value := getattr(self, name), list):  # as read from JSON
                whole = tuple(tuple(one) if isinstance(one, list) else one for one in value)
                object.__setattr__(self, name, whole)
        if self.order not in ORDERS:
            raise ValueError(f"order: {self.order} is not one of {', '.join(ORDERS)}")
        if self.exit_rule != "none":
            self.exits()
        if self.policy not in POLICIES:
            raise ValueError(f"policy: {self.policy} is not one of {', '.join(POLICIES)}")
        if self.recalibrate not in ("none", "sample", "same"):
            raise ValueError(f"recalibrate: {self.recalibrate} is not one of none, sample, same")
        taus = self.tau.values() if isinstance(self.tau, Mapping) else [self.tau]
        if any(not 0 <= tau <= 1 for tau in taus):
            raise ValueError(f"tau: {self.tau} is not between 0 and 1")
        if self.policy == "ensemble" and self.passes < 2:
            raise ValueError(f"passes: an ensemble needs at least 2, not {self.passes}")

    def as_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, and the policy with its own setting."""
        out: dict[str, Any] = {"policy": self.policy}
        if self.policy == "threshold":
            out["tau"] = dict(self.tau) if isinstance(self.tau, Mapping) else self.tau
        if self.policy in ("stochastic", "ensemble"):
            out["passes"] = self.passes
        if self.prune is not None:
            out["prune"] = self.prune
        if self.recalibrate != "none":
            out |= {
                "recalibrate": self.recalibrate,
                "recalibration_batches": self.recalibration_batches,
            }
        if self.exit_rule != "none":
            out |= {"exit_rule": self.exit_rule, "exit_thresholds": list(self.exit_thresholds)}
            out |= {"fallback": self.fallback} if self.fallback != "deepest" else {}
            out |= (
                {"exit_temperatures": list(self.exit_temperatures)}
                if self.exit_temperatures
                else {}
            )
            out |= (
                {"exit_judges": [list(one) for one in self.exit_judges]} if self.exit_judges else {}
            )
        if self.order != "sequential":
            out |= {"order": self.order, "passes": self.passes}
        if self.keep is not None:
            out["keep"] = list(self.keep)
        return out

    def exits(self) -> ExitRule | None:
        """The rule by which images leave; None when exits are not used."""
        if self.exit_rule == "none":
            return None
        if self.exit_rule == "every":
            return ExitRule(every=True)
        return ExitRule(
            rule=self.exit_rule,
            thresholds=self.exit_thresholds,
            fallback=self.fallback,
            temperatures=self.exit_temperatures,
            judges=self.exit_judges,
        )

    @property
    def random(self) -> bool:
        """Whether answers depend on a draw, so that the setting cannot be shipped as it was measured."""
        return self.policy in ("stochastic", "ensemble") or self.order == "arbitrary"


@dataclass(frozen=True)
class Exits:
    """Of the exits of one forward pass; empty tuples in compact execution, where nobody saw all of them.

    `logits` and `macs` have an entry an early exit and one for the deepest head: answers (B, C), and MACs (B,) that an
    image pays which leaves there. `features` (B, D) are what the heads read. `index_B` is who answered: 0 to K - 1 an
    early exit, K the deepest head, K + 1 the fallback.
    """

    logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    macs: tuple[Tensor, ...]
    index_B: Tensor


@dataclass(frozen=True)
class Output:
    """Of one forward pass: logits (B, C), what every gate decided, MACs (B,) float64 with gradient to the gates.

    `extra` are tensors that the family's objective reads.
    """

    logits_BC: Tensor
    decisions: tuple[Decision, ...]
    macs_B: Tensor
    exits: Exits | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The length of a training, for schedules, the seed of its gate noise, and how its answers are judged.

    `class_weights` are those of each class in the cross-entropy, with mean 1 over the training images; None: all 1.
    """

    epochs: int
    steps: int  # an epoch
    seed: int = 0
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None


class Objective:
    """What training minimises, and how gates are decided while it does; subclassed by families that add losses.

    Its state is of the training, not of the network, and goes into the checkpoint.
    """

    def __init__(self, net: DynamicNet, plan: Plan) -> None:
        self.net, self.plan = net, plan

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0."""

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        """How gates are decided at this step, counted from 0 over the whole training."""
        return AlwaysOn()

    def losses(self, output: Output, labels_B: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is minimised, weights included; the first is the cross-entropy."""
        return {"cross_entropy": self.cross_entropy(output.logits_BC.float(), labels_B)}

    def cross_entropy(self, logits_BC: Tensor, labels_B: Tensor, reduction: str = "mean") -> Tensor:
        """The cross-entropy with the plan's label smoothing and class weights."""
        smoothing, weights = self.plan.label_smoothing, self.plan.class_weights
        weight = None if weights is None else logits_BC.new_tensor(weights)
        return F.cross_entropy(
            logits_BC, labels_B, weight, reduction=reduction, label_smoothing=smoothing
        )

    def after_step(self, output: Output) -> None:
        """Called after the optimiser's step."""

    @property
    def settled(self) -> bool:
        """Whether compute is comparable by now: no target still moves."""
        return True

    @property
    def outlook(self) -> float | None:
        """What compute will be at the end of the training over what it is now, at least; None: nobody can say yet."""
        return 1.0

    def report(self) -> dict[str, float]:
        """What a reader of the epoch's record wants to know of the objective."""
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""


class WrappingObjective(Objective):
    """An objective that adds to another one, `inner`; what it does not override is the inner one's."""

    def __init__(self, net: DynamicNet, plan: Plan, inner: Objective) -> None:
        super().__init__(net, plan)
        self.inner = inner

    def start_epoch(self, epoch: int) -> None:
        self.inner.start_epoch(epoch)

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        return self.inner.policy(step, ids_B)

    def losses(self, output: Output, labels_B: Tensor) -> dict[str, Tensor]:
        return self.inner.losses(output, labels_B)

    def after_step(self, output: Output) -> None:
        self.inner.after_step(output)

    @property
    def settled(self) -> bool:
        return self.inner.settled

    @property
    def outlook(self) -> float | None:
        return self.inner.outlook

    def report(self) -> dict[str, float]:
        return self.inner.report()

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def load(self, state: dict[str, Any]) -> None:
        self.inner.load(state)


class DynamicNet(nn.Module):
    """A classifier that decides per image what it computes. Families subclass it.

    Nothing about a single run is kept on the module: policies, noise and costs are arguments and results.
    """

    task: Task
    gates: tuple[Gate, ...] = ()
    plain_macs: int  # of the same network without gates, exits and oracles
    exit_count: int = 0  # early exits, not counting the network's own head
    movable_layers: int = 0  # layers that can run in any order, or be left out
    trained_to_move: bool = False  # whether training prepared those layers for it
    # a gate held open (closed) answers as one that decides to be open (closed)
    settles_exactly: bool = True
    # with every gate open and no exit, the answers are the baseline's to the bit
    opens_to_plain: bool = True
    standing_macs: int = 0  # that every image pays beyond the baseline's, whatever is decided

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        """Logits, decisions and MACs of normalised images (B, C, H, W) under a policy (default: all open).

        compact=False computes everything and multiplies by the decisions; compact=True computes only what is open
        and is refused in training mode, where it would change batch-norm statistics (RuntimeError).
        """
        raise NotImplementedError

    def objective(self, plan: Plan) -> Objective:
        """What to minimise when training this network."""
        return Objective(self, plan)

    def total_units(self) -> int:
        """Gate units of the whole network."""
        return sum(gate.units for gate in self.gates)

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A baseline's state dict from elsewhere under the names that its tensors have here."""
        return dict(state)

    def paper_cost(self, shares: Sequence[float], fallback: str) -> float | None:
        """Compute over the baseline's as a paper counts it, from the share of images at each exit, if one does.

        `shares` has one entry an early exit and one for the rest, which the deepest head or the fallback answers.
        """
        return None

    def unneeded(self, policy: Policy) -> list[str]:
        """Names of submodules that inference under the policy never runs, so that they need not be shipped."""
        return []

    def gate_parameters(self) -> list[nn.Parameter]:
        """The parameters that decide; they get their own learning rate and weight decay."""
        return []

    def knobs_policy(
        self, knobs: Knobs, *, ids: Tensor, rates: Rates | None = None, seed: int = 0, step: int = 0
    ) -> Policy:
        """The policy that knobs ask for; `rates` are measured open rates a unit, needed to prune or to scale."""
        if (knobs.prune is not None or knobs.policy == "scaled_on") and rates is None:
            raise ValueError(f"{knobs.policy} with prune={knobs.prune} needs measured gate rates")
        fixed = (
            collapsed(rates, knobs.prune) if rates is not None and knobs.prune is not None else {}
        )
        rest: dict[str, Any] = {
            "exits": knobs.exits(),
            "order": self.layer_order(knobs, seed, step),
        }
        if knobs.policy == "always_on":
            return AlwaysOn(**rest)
        if knobs.policy == "scaled_on":
            assert rates is not None
            return ScaledOn(rates=rates, **rest)
        if knobs.policy == "threshold":
            return Threshold(tau=knobs.tau, fixed=fixed, **rest)
        return Sampled(
            seed=seed, step=step, ids_B=ids, units=self.total_units(), fixed=fixed, **rest
        )

    def layer_order(self, knobs: Knobs, seed: int, step: int) -> tuple[int, ...] | None:
        """The layers to run that the knobs ask for, in order; None for all as built."""
        if knobs.keep is not None and not set(knobs.keep) <= set(range(self.movable_layers)):
            able = (
                f"layers 0 to {self.movable_layers - 1}"
                if self.movable_layers
                else "no layer that can be left out"
            )
            raise ValueError(f"keep: {list(knobs.keep)} is not possible, this network has {able}")
        kept = knobs.keep if knobs.keep is not None else tuple(range(self.movable_layers))
        if not self.movable_layers or (knobs.keep is None and knobs.order == "sequential"):
            return None
        if knobs.order == "sequential":
            return kept
        return tuple(kept[i] for i in permutation(seed, step, len(kept)))

    def run(
        self,
        images: Tensor,
        knobs: Knobs,
        *,
        ids: Tensor | None = None,
        rates: Rates | None = None,
        seed: int = 0,
        step: int = 0,
        compact: bool = False,
    ) -> Output:
        """One inference of normalised images under run-time knobs: masked, or computing only what is open.

        An ensemble returns the log of the mean probability as logits, the sum of the passes' MACs and the last
        pass's decisions (and exits).
        """
        ids = torch.arange(len(images), device=images.device) if ids is None else ids
        if knobs.policy != "ensemble":
            policy = self.knobs_policy(knobs, ids=ids, rates=rates, seed=seed, step=step)
            return self(images, policy, compact=compact)
        probability = torch.zeros((), device=images.device)
        macs_B = torch.zeros((), device=images.device)
        for one in range(knobs.passes):
            policy = self.knobs_policy(
                knobs, ids=ids, rates=rates, seed=seed, step=step * knobs.passes + one
            )
            output = self(images, policy, compact=compact)
            probability = probability + output.logits_BC.float().softmax(1) / knobs.passes
            macs_B = macs_B + output.macs_B
        return Output(probability.log(), output.decisions, macs_B)


def collapsed(rates: Rates, eps: float) -> Fixed:
    """Gate units whose measured open rate is within eps of 0 or 1, settled there; the others stay undecided."""
    return {
        name: tuple(0.0 if r <= eps else 1.0 if r >= 1 - eps else None for r in units)
        for name, units in rates.items()
    }
