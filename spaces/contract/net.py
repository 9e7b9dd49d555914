"""The contract of every family: a network whose compute depends on the image.

Shapes: B images, C classes, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.depths import depths_by_number
from spaces.contract.knobs import Knobs, Rates, collapsed_gates
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
from spaces.contract.truth import Labels, Truth, distillation, shared_cross_entropy, truth_of

# gates, exits, and what layers of transformers add
ADDED = ("exit_", "gate_", "mixings.", "oracles.", "places.", "place_heads.")


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
    distill: float = 0.0  # weight of a teacher's answers, beside 1 - distill of the labels
    distill_temperature: float = 4.0


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

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        """The terms whose sum is minimised, weights included; the first is the cross-entropy."""
        return {"cross_entropy": self.cross_entropy(output.logits_BC.float(), labels)}

    def cross_entropy(self, logits_BC: Tensor, labels: Labels, reduction: str = "mean") -> Tensor:
        """What an answer costs: all answers of a network, early ones too, are judged by this.

        The cross-entropy with the plan's label smoothing and class weights; of mixed images, with their shares. Where
        the labels have a teacher's logits, a part of it is distillation from them.
        """
        truth, weight = truth_of(labels), self.plan.distill
        hard = self._cross_entropy(logits_BC, truth, reduction)
        if truth.teacher_BC is None or not weight:
            return hard
        temperature = self.plan.distill_temperature
        soft = distillation(logits_BC, truth.teacher_BC.float(), temperature, reduction)
        return (1 - weight) * hard + weight * soft

    def _cross_entropy(self, logits_BC: Tensor, truth: Truth, reduction: str) -> Tensor:
        smoothing, weights = self.plan.label_smoothing, self.plan.class_weights
        weight = None if weights is None else logits_BC.new_tensor(weights)
        if truth.shares_BC is not None:
            return shared_cross_entropy(logits_BC, truth.shares_BC, weight, smoothing, reduction)
        single = partial(F.cross_entropy, logits_BC, truth.labels_B, label_smoothing=smoothing)
        if weight is None:
            return single(reduction=reduction)
        # torch's own mean divides by the weights of the batch: a micro-batch of one class would count as if unweighted
        each_B = single(weight=weight, reduction="none")
        return each_B if reduction == "none" else each_B.mean()

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

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        return self.inner.losses(output, labels)

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
    # how the names of parameters begin that the baseline does not have
    added: tuple[str, ...] = ADDED

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

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the layers that answer for a number of classes; empty where it is the last layer of the baseline."""
        return ()

    def constant_names(self) -> set[str]:
        """Names of the tensors that no training changes: all that train from the same weights have the same ones."""
        return set()

    def depths(self) -> dict[str, int]:
        """How deep each parameter of the baseline lies, from 0; the deepest answer."""
        return depths_by_number(
            n for n, _ in self.named_parameters() if not n.startswith(self.added)
        )

    def head_names(self) -> set[str]:
        """Parameters that no trained weights of the baseline bring along: classifiers, and all that is added."""
        names = [name for name, _ in self.named_parameters()]
        plain = [name for name in names if not name.startswith(self.added)]
        answering = self.classifiers or (plain[-1].rpartition(".")[0],)
        return {
            name
            for name in names
            if name.startswith(self.added) or name.rpartition(".")[0] in answering
        }

    def paper_cost(self, shares: Sequence[float]) -> float | None:
        """Compute over the baseline's as a paper counts it, from the share of images at each exit, if one does.

        `shares` has one entry an early exit, one for the deepest head and, where it answers, one for the ensemble.
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
        fixed: Fixed = {}
        if rates is not None and knobs.prune is not None:
            fixed = collapsed_gates(rates, knobs.prune)
        order = self.layer_order(knobs, seed, step)
        rest: dict[str, Any] = {"exits": knobs.exits(), "order": order}
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
            able = "no layer that can be left out"
            if self.movable_layers:
                able = f"layers 0 to {self.movable_layers - 1}"
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
        for number in range(knobs.passes):
            draw = step * knobs.passes + number
            policy = self.knobs_policy(knobs, ids=ids, rates=rates, seed=seed, step=draw)
            output = self(images, policy, compact=compact)
            probability = probability + output.logits_BC.float().softmax(1) / knobs.passes
            macs_B = macs_B + output.macs_B
        return Output(probability.log(), output.decisions, macs_B)
