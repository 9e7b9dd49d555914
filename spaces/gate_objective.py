"""The training objective of gated networks: cross-entropy plus the loss that closes gates, along its schedule.

Shapes: B samples, U units of a gate, G units of a group of gates (all layer gates, or all channel gates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spaces import sparsity
from spaces.batch_shaping import batch_shaping
from spaces.net import DynamicNet, Objective, Output, Plan
from spaces.policies import AlwaysOn, Decision, Policy, Sampled
from spaces.sparsity import SparsityConfig
from spaces.targets import Target, TargetPlan

_MAC_LOSSES = ("mac_quad", "mac_hinge", "lagrange", "utility")
_GAIN = 50  # how far a multiplier may rise over a training while the budget is overspent by all of the MACs


@dataclass
class Group:
    """Gates that share a target: all layer gates, or all channel gates."""

    name: str
    target: Target
    free_weight: float  # of the target-free loss
    activation: Tensor | None = None  # of the last batch, detached


class GateObjective(Objective):
    """Cross-entropy plus a sparsity loss over groups of gates; draws gates while training."""

    def __init__(self, net: DynamicNet, plan: Plan, config: Any) -> None:
        """`config` is a family's config made of GateConfig and SparsityConfig."""
        super().__init__(net, plan)
        self.config = config
        self.epoch = 0
        self.done = 0.0  # fraction of the training
        self.multiplier = 0.0  # of the Lagrangian: what a unit of MACs costs by now
        kinds = {"layer" if gate.kind == "layer" else "channel" for gate in net.gates if gate.kind != "exit"}
        present = [kind for kind in ("layer", "channel") if kind in kinds]
        if config.loss in _MAC_LOSSES:
            present = present[:1]  # one target for the whole network's compute
        self.groups = [self._group(kind, joint=len(present) == 2) for kind in present]

    def _group(self, kind: str, *, joint: bool) -> Group:
        config = self.config
        end = config.target_channel if joint and kind == "channel" else config.target
        free_weight = config.lambda_layer if kind == "layer" else config.gamma_channel
        return Group(kind, Target(_target_plan(config, self.plan, end)), free_weight)

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for group in self.groups:
            group.target.start_epoch(epoch)

    @property
    def warming_up(self) -> bool:
        return self.epoch < round(self.config.open_warmup * self.plan.epochs)

    @property
    def settled(self) -> bool:
        return not self.warming_up and all(group.target.final for group in self.groups)

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

    def losses(self, output: Output, labels_B: Tensor) -> dict[str, Tensor]:
        terms = super().losses(output, labels_B)
        config = self.config
        if self.warming_up:
            return terms
        terms |= self._shaping(output)
        if config.loss == "none" or not self.groups:
            return terms
        if config.loss in _MAC_LOSSES:
            fraction_B = output.macs_B / self.net.plain_macs
            self.groups[0].activation = fraction_B.detach().mean()
            terms[config.loss] = self._mac_loss(fraction_B).float()
            return terms
        for group in self.groups:
            found = self._activations(group.name, output.decisions)
            if found is None:  # training left all of these layers out
                continue
            m_G, weight_G = found
            m = (m_G * weight_G).sum() / weight_G.sum()
            group.activation = m.detach()
            terms[f"{config.loss}_{group.name}"] = self._loss(group, m_G, m)
        return terms

    def _mac_loss(self, fraction_B: Tensor) -> Tensor:
        config, target = self.config, self.groups[0].target.value
        if config.loss == "utility":
            return config.kappa * fraction_B.mean()
        if config.loss == "lagrange":
            return self.multiplier * (fraction_B.mean() - target)
        return config.loss_weight * getattr(sparsity, config.loss)(fraction_B, target)

    def _shaping(self, output: Output) -> dict[str, Tensor]:
        """Batch-shaping, its weight falling to 0; nothing for gates that are the same for every image."""
        config = self.config
        weight = config.batch_shaping * max(0.0, 1 - self.done / config.shaping_end)
        read = [d.p_BU for d in output.decisions if d.gate.kind != "exit" and d.p_BU is not None and len(d.p_BU) > 1]
        if not weight or not read:
            return {}
        prior = config.shaping_prior
        return {"batch_shaping": weight * batch_shaping(torch.cat(read, 1), prior, 1 - prior)}

    def after_step(self, output: Output) -> None:
        if self.config.loss == "lagrange" and self.groups and self.groups[0].activation is not None:
            over = float(self.groups[0].activation) - self.groups[0].target.value
            gain = _GAIN * self.config.loss_weight / (self.plan.epochs * self.plan.steps)
            self.multiplier = max(0.0, self.multiplier + gain * over)
        for group in self.groups:
            if group.activation is not None and group.target.plan.schedule in ("mean", "ema"):
                group.target.after_step(float(group.activation))

    def report(self) -> dict[str, float]:
        if self.config.loss in ("none", "target_free", "utility"):
            return {}
        of_macs = self.config.loss in _MAC_LOSSES
        found = {f"target/{'macs' if of_macs else group.name}": group.target.value for group in self.groups}
        return found | ({"multiplier": self.multiplier} if self.config.loss == "lagrange" else {})

    def state(self) -> dict[str, Any]:
        return {"targets": [group.target.state() for group in self.groups], "multiplier": self.multiplier}

    def load(self, state: dict[str, Any]) -> None:
        for group, one in zip(self.groups, state["targets"], strict=True):
            group.target.load(one)
        self.multiplier = float(state["multiplier"])

    def _loss(self, group: Group, m_G: Tensor, m: Tensor) -> Tensor:
        config, t = self.config, group.target.value
        if config.loss == "target_free":
            return group.free_weight * sparsity.target_free(m_G, config.reduction)
        if config.loss in ("per_gate", "const_quad_per_gate"):
            t_G = torch.tensor(sparsity.target_vector(config.target_vector, t, m_G.numel())).to(m_G)
            return config.loss_weight * getattr(sparsity, config.loss)(m_G, t_G)
        return config.loss_weight * getattr(sparsity, config.loss)(m, t)

    def _activations(self, group: str, decisions: tuple[Decision, ...]) -> tuple[Tensor, Tensor] | None:
        """Mean open value a unit, and the unit's weight: its MACs, or 1; None when no gate of the group was asked."""
        layer_z = {d.gate.block: d.z_BU for d in decisions if d.gate.kind == "layer"}
        means, weights = [], []
        for decision in decisions:
            if (
                not decision.asked
                or decision.gate.kind == "exit"
                or (decision.gate.kind == "layer") != (group == "layer")
            ):
                continue
            z_BU = decision.z_BU
            if group == "channel" and self.config.channel_count == "effective":
                z_BU = z_BU * layer_z.get(decision.gate.block, z_BU.new_ones(1, 1))
            means.append(z_BU.mean(0))
            by_macs = self.config.weighting == "mac"
            weights.append(torch.full_like(means[-1], decision.gate.macs if by_macs else 1.0))
        return (torch.cat(means), torch.cat(weights)) if means else None


def _target_plan(config: SparsityConfig, plan: Plan, end: float) -> TargetPlan:
    targeted = config.loss not in ("none", "target_free", "utility")
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
