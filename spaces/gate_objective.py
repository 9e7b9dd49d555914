"""The training objective of gated networks: cross-entropy plus the loss that closes gates, along its schedule.

Shapes: B samples, U units of a gate, G units of a group of gates (all layer gates, or all channel gates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spaces import sparsity
from spaces.batch_shaping import batch_shaping
from spaces.net import DynamicNet, Objective, Output, Plan
from spaces.policies import AlwaysOn, Decision, Gate, Policy, Sampled
from spaces.sparsity import SparsityConfig
from spaces.targets import Target, TargetPlan

_MAC_LOSSES = ("mac_quad", "mac_hinge", "lagrange", "utility")
_UNTARGETED = ("none", "target_free", "utility", "l0")
_GAIN = 50  # how far a multiplier may rise over a training while the budget is overspent by all of the MACs
Means = list[tuple[Gate, Tensor]]  # gates, and (U,) the mean open values of their units


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
    def waiting(self) -> bool:
        """Whether what closes gates has not begun: they are held open, or L0 has yet to set in."""
        config = self.config
        return self.warming_up or (config.loss == "l0" and self.epoch < round(config.l0_start * self.plan.epochs))

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

    def losses(self, output: Output, labels_B: Tensor) -> dict[str, Tensor]:
        terms = super().losses(output, labels_B)
        config = self.config
        if self.warming_up:
            return terms
        terms |= self._shaping(output)
        if config.loss == "none" or not self.groups or self.waiting:
            return terms
        if config.loss == "l0":
            return terms | self._l0(output)
        if config.loss in _MAC_LOSSES:
            fraction_B = output.macs_B / self.net.plain_macs
            self.groups[0].activation = fraction_B.detach().mean()
            terms[config.loss] = self._mac_loss(fraction_B).float()
            if self.groups[0].target.tightness:
                terms |= self._bounds(self.groups[0], "macs", self._means(None, output.decisions))
            return terms
        for group in self.groups:
            means = self._means(group.name, output.decisions)
            if not means:  # training left all of these layers out
                continue
            m_G = torch.cat([m_U for _, m_U in means])
            by_macs = config.weighting == "mac"
            weight_G = torch.cat([torch.full_like(m_U, gate.macs if by_macs else 1.0) for gate, m_U in means])
            m = (m_G * weight_G).sum() / weight_G.sum()
            group.activation = m.detach()
            terms[f"{config.loss}_{group.name}"] = self._loss(group, m_G, m)
            if group.target.tightness:
                terms |= self._bounds(group, group.name, means)
        return terms

    def _mac_loss(self, fraction_B: Tensor) -> Tensor:
        config, target = self.config, self.groups[0].target.value
        if config.loss == "utility":
            return config.kappa * fraction_B.mean()
        if config.loss == "lagrange":
            return self.multiplier * (fraction_B.mean() - target)
        return config.loss_weight * getattr(sparsity, config.loss)(fraction_B, target)

    def _l0(self, output: Output) -> dict[str, Tensor]:
        read = [d.p_BU.mean(0) for d in output.decisions if d.gate.kind != "exit" and d.asked and d.p_BU is not None]
        return {"l0": self.config.l0_weight * sparsity.l0(torch.cat(read))} if read else {}

    def _bounds(self, group: Group, name: str, means: Means) -> dict[str, Tensor]:
        """What gates cost whose units are open less or more, on average, than the schedule lets them by now."""
        if not means:
            return {}
        t_G = self._targets(group, torch.cat([m_U for _, m_U in means]))
        t_L = torch.stack([t_U.mean() for t_U in t_G.split([gate.units for gate, _ in means])])
        m_L = torch.stack([m_U.mean() for _, m_U in means])
        return {f"bounds_{name}": self.config.loss_weight * sparsity.bounds(m_L, t_L, group.target.tightness)}

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
        if self.config.loss in _UNTARGETED:
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
            return config.loss_weight * getattr(sparsity, config.loss)(m_G, self._targets(group, m_G))
        return config.loss_weight * getattr(sparsity, config.loss)(m, t)

    def _targets(self, group: Group, m_G: Tensor) -> Tensor:
        """(G,) the target of each unit, with the type and device of m_G."""
        shape = self.config.target_vector if self.config.loss in sparsity.EACH else "constant"
        return torch.tensor(sparsity.target_vector(shape, group.target.value, m_G.numel())).to(m_G)

    def _means(self, group: str | None, decisions: tuple[Decision, ...]) -> Means:
        """Each gate of the group (None: of both) that was asked, with its units' mean open values."""
        layer_z = {d.gate.block: d.z_BU for d in decisions if d.gate.kind == "layer"}
        means = []
        for decision in decisions:
            kind = "layer" if decision.gate.kind == "layer" else "channel"
            if not decision.asked or decision.gate.kind == "exit" or group not in (None, kind):
                continue
            z_BU = decision.z_BU
            if kind == "channel" and self.config.channel_count == "effective":
                z_BU = z_BU * layer_z.get(decision.gate.block, z_BU.new_ones(1, 1))
            means.append((decision.gate, z_BU.mean(0)))
        return means


def _target_plan(config: SparsityConfig, plan: Plan, end: float) -> TargetPlan:
    targeted = config.loss not in _UNTARGETED
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
