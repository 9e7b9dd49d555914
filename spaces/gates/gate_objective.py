"""The training objective of gated networks: cross-entropy plus the loss that closes gates, along its schedule.

Shapes: B samples, U units of a gate, G units of a group of gates (all layer gates, or all channel gates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spaces.contract.net import DynamicNet, Objective, Output, Plan
from spaces.contract.policies import REINFORCE, AlwaysOn, Policy, Sampled
from spaces.contract.truth import Labels
from spaces.gates.batch_shaping import batch_shaping
from spaces.gates.open_rates import (
    Means,
    group_of,
    mean_open_values,
    mean_probabilities,
    probabilities_by_image,
)
from spaces.gates.reinforce import policy_gradient
from spaces.gates.sparsity import EACH, LOSSES, Loss, SparsityConfig, bounds, target_vector
from spaces.gates.targets import Target, TargetPlan

_GAIN = 50  # how far a multiplier may rise over a training while the budget is overspent by all of the MACs
_ELSEWHERE = Loss(function=None, takes="nothing")  # a loss that a family's own objective computes


@dataclass
class Group:
    """Gates that share a target: all layer gates, or all channel gates."""

    name: str
    target: Target
    activation: Tensor | None = None  # of the last batch, detached


class GateObjective(Objective):
    """Cross-entropy plus a sparsity loss over groups of gates; draws gates while training."""

    def __init__(self, net: DynamicNet, plan: Plan, config: Any) -> None:
        """`config` is a family's config made of GateConfig and SparsityConfig."""
        super().__init__(net, plan)
        self.config = config
        self.loss = LOSSES.get(config.loss, _ELSEWHERE)
        self.epoch = 0
        self.done = 0.0  # fraction of the training
        self.multiplier = 0.0  # of the Lagrangian: what a unit of MACs costs by now
        names = {group_of(gate) for gate in net.gates if gate.kind != "exit"}
        present = [name for name in ("layer", "channel") if name in names]
        if self.loss.takes == "macs":
            present = present[:1]  # one target for the whole network's compute
        self.groups = [self._group(name, joint=len(present) == 2) for name in present]

    def _group(self, name: str, *, joint: bool) -> Group:
        config = self.config
        end = config.target_channel if joint and name == "channel" else config.target
        plan = _target_plan(config, self.plan, end, targeted=self.loss.targeted)
        return Group(name, Target(plan))

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for group in self.groups:
            group.target.start_epoch(epoch)

    @property
    def warming_up(self) -> bool:
        return self.epoch < round(self.config.open_warmup * self.plan.epochs)

    @property
    def waiting(self) -> bool:
        """Whether what closes gates has not begun: they are held open, or the loss has yet to set in."""
        start = self._value(self.loss.start) if self.loss.start else 0.0
        return self.warming_up or self.epoch < round(start * self.plan.epochs)

    @property
    def settled(self) -> bool:
        return not self.waiting and all(group.target.final for group in self.groups)

    @property
    def outlook(self) -> float | None:
        # as if all compute were behind gates: what is not costs more than this in the end, never less
        return None if self.waiting else math.prod(group.target.left for group in self.groups)

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        config, total = self.config, self.plan.epochs * self.plan.steps
        self.done = step / total
        if self.warming_up:
            return AlwaysOn()
        temperature = config.temperature
        if config.temperature_schedule == "exponential":
            temperature *= (0.1 / temperature) ** (step / max(1, total - 1))
        return Sampled(
            seed=self.plan.seed,
            step=step,
            ids_B=ids_B,
            units=self.net.total_units(),
            temperature=temperature,
            estimator=config.estimator,
            noisy=step < (1 - config.noise_off) * total,
        )

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        terms = super().losses(output, labels)
        if self.warming_up:
            return terms
        terms |= self._shaping(output)
        if self.config.estimator == REINFORCE:
            terms["policy_gradient"] = self._policy_gradient(output, labels)
        if self.loss.function is None or not self.groups or self.waiting:
            return terms
        if self.loss.takes == "probabilities":
            return terms | self._of_probabilities(output)
        if self.loss.takes == "macs":
            return terms | self._of_macs(output)
        for group in self.groups:
            terms |= self._of_group(group, output)
        return terms

    def _policy_gradient(self, output: Output, labels: Labels) -> Tensor:
        """The cost of an image is its cross-entropy and, under the loss utility, its MACs at their price."""
        cost_B = self.cross_entropy(output.logits_BC.float(), labels, "none").double()
        if self.loss.function is not None:
            price = self._value(self.loss.weight)
            cost_B = cost_B + price * output.macs_B / self.net.plain_macs
        return policy_gradient(cost_B, output.decisions).float()

    def _of_probabilities(self, output: Output) -> dict[str, Tensor]:
        means = mean_probabilities(output.decisions)
        if not means:
            return {}
        return {self.config.loss: self._weighted(self.groups[0], torch.cat(means))}

    def _of_macs(self, output: Output) -> dict[str, Tensor]:
        group, fraction_B = self.groups[0], output.macs_B / self.net.plain_macs
        group.activation = fraction_B.detach().mean()
        terms = {self.config.loss: self._weighted(group, fraction_B).float()}
        if group.target.tightness:
            terms |= self._bounds(group, "macs", self._means(output, None))
        return terms

    def _of_group(self, group: Group, output: Output) -> dict[str, Tensor]:
        means = self._means(output, group.name)
        if not means:  # training left all of these layers out
            return {}
        m_G = torch.cat([m_U for _, m_U in means])
        by_macs = self.config.weighting == "mac"
        weights = [torch.full_like(m_U, gate.macs if by_macs else 1.0) for gate, m_U in means]
        weight_G = torch.cat(weights)
        m = (m_G * weight_G).sum() / weight_G.sum()
        group.activation = m.detach()
        measured = m_G if self.loss.takes == "gates" else m
        terms = {f"{self.config.loss}_{group.name}": self._weighted(group, measured)}
        if group.target.tightness:
            terms |= self._bounds(group, group.name, means)
        return terms

    def _weighted(self, group: Group, measured: Tensor) -> Tensor:
        """The loss of what it takes, see `Loss`, times its weight."""
        loss = self.loss
        assert loss.function is not None
        weight = self.multiplier if loss.multiplier else self._value(loss.weight_of(group.name))
        options = {name: self._value(name) for name in loss.options}
        if not loss.targeted:
            return weight * loss.function(measured, **options)
        target = self._targets(group, measured) if loss.takes == "gates" else group.target.value
        return weight * loss.function(measured, target, **options)

    def _means(self, output: Output, group: str | None) -> Means:
        effective = self.config.channel_count == "effective"
        return mean_open_values(output.decisions, group, effective=effective)

    def _value(self, dimension: str) -> Any:
        return getattr(self.config, dimension)

    def _bounds(self, group: Group, name: str, means: Means) -> dict[str, Tensor]:
        """What gates cost whose units are open less or more, on average, than the schedule lets them by now."""
        if not means:
            return {}
        t_G = self._targets(group, torch.cat([m_U for _, m_U in means]))
        t_L = torch.stack([t_U.mean() for t_U in t_G.split([gate.units for gate, _ in means])])
        m_L = torch.stack([m_U.mean() for _, m_U in means])
        loss = bounds(m_L, t_L, group.target.tightness)
        return {f"bounds_{name}": self.config.loss_weight * loss}

    def _shaping(self, output: Output) -> dict[str, Tensor]:
        """Batch-shaping, its weight falling to 0; nothing for gates that are the same for every image."""
        config = self.config
        weight = config.batch_shaping * max(0.0, 1 - self.done / config.shaping_end)
        probabilities = probabilities_by_image(output.decisions)
        if not weight or not probabilities:
            return {}
        prior = config.shaping_prior
        return {
            "batch_shaping": weight * batch_shaping(torch.cat(probabilities, 1), prior, 1 - prior)
        }

    def after_step(self, output: Output) -> None:
        if self.loss.multiplier and self.groups and self.groups[0].activation is not None:
            over = float(self.groups[0].activation) - self.groups[0].target.value
            gain = _GAIN * self.config.loss_weight / (self.plan.epochs * self.plan.steps)
            self.multiplier = max(0.0, self.multiplier + gain * over)
        for group in self.groups:
            if group.activation is not None and group.target.plan.schedule in ("mean", "ema"):
                group.target.after_step(float(group.activation))

    def report(self) -> dict[str, float]:
        if not self.loss.targeted:
            return {}
        of_macs = self.loss.takes == "macs"
        values = {
            f"target/{'macs' if of_macs else group.name}": group.target.value
            for group in self.groups
        }
        return values | ({"multiplier": self.multiplier} if self.loss.multiplier else {})

    def state(self) -> dict[str, Any]:
        targets = [group.target.state() for group in self.groups]
        return {"targets": targets, "multiplier": self.multiplier}

    def load(self, state: dict[str, Any]) -> None:
        for group, target in zip(self.groups, state["targets"], strict=True):
            group.target.load(target)
        self.multiplier = float(state["multiplier"])

    def _targets(self, group: Group, m_G: Tensor) -> Tensor:
        """(G,) the target of each unit, with the type and device of m_G."""
        shape = self.config.target_vector if self.config.loss in EACH else "constant"
        return torch.tensor(target_vector(shape, group.target.value, m_G.numel())).to(m_G)


def _target_plan(config: SparsityConfig, plan: Plan, end: float, *, targeted: bool) -> TargetPlan:
    return TargetPlan(
        schedule=config.target_schedule if targeted else "constant",
        end=end,
        epochs=plan.epochs,
        steps=plan.steps,
        anneal_from=config.anneal_from,
        anneal_step=config.anneal_step,
        anneal_every=config.anneal_every,
        start=config.target_start,
        rho=config.ema_rho,
        window=config.target_window,
    )
