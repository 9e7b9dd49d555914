"""How networks with exits are trained: distillation from the deepest head, or gates that learn whom to let go.

Self-distillation follows Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks Framework Towards
Compact and Efficient Models", NeurIPS, 2019; exits that a gate decides follow Herrmann, Bowen and Zabih, "Deep
networks with probabilistic gates", 2018. Differs: the feature loss is a mean over the batch by default (the published
sum stays available).

Shapes: B images, C classes, D features, K early exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.net import Objective, Output, Plan, WrappingObjective
from spaces.contract.policies import AlwaysOn, Policy, Sampled
from spaces.contract.truth import Labels, distillation
from spaces.exits.exit_config import ExitConfig
from spaces.exits.exits import ExitNet


class ExitObjective(WrappingObjective):
    """What `inner` minimises plus the losses of exits, all of which are evaluated in training."""

    def __init__(self, net: ExitNet, plan: Plan, config: ExitConfig, inner: Objective) -> None:
        super().__init__(net, plan, inner)
        self.config, self.heads = config, net.exit_heads
        self.exits_alone = bool(net.gates) and all(gate.kind == "exit" for gate in net.gates)

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        policy = self.inner.policy(step, ids_B)
        # the inner objective knows of no gates
        if self.exits_alone and isinstance(policy, AlwaysOn):
            policy = Sampled(
                seed=self.plan.seed,
                step=step,
                ids_B=ids_B,
                units=self.net.total_units(),
                order=policy.order,
                survival=policy.survival,
            )
        return replace(policy, exits=ExitRule(every=True))

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        # too few layers were run to get to an exit
        if output.exits is None or len(output.exits.logits) < 2:
            return self.inner.losses(output, labels)
        terms = self.inner.losses(self._without_heads(output), labels)
        logits = [one.float() for one in output.exits.logits]
        if self.config.exit_decision == "gate":
            return terms | self._gated(output, logits, labels)
        last = logits[-1].detach()
        teacher = (
            torch.stack(logits).mean(0).detach() if self.config.teacher == "ensemble" else last
        )
        alpha, t = self.config.alpha_kd, self.config.kd_temperature
        hard = sum(self.cross_entropy(one, labels) for one in logits[:-1])
        terms["exits"] = (1 - alpha) * torch.as_tensor(hard)
        if alpha:
            terms["distillation"] = (
                alpha * torch.stack([distillation(one, teacher, t) for one in logits[:-1]]).sum()
            )
        if self.config.exits == "scan":
            terms["features"] = self._features(output.exits.features)
        return terms

    def _without_heads(self, output: Output) -> Output:
        """The output as if it had not paid for all heads, which in use are paid as far as an image goes."""
        if self.config.exit_decision == "gate" or output.exits is None:
            return output
        heads = list(self.heads)[: len(output.exits.logits) - 1]
        return replace(output, macs_B=output.macs_B - sum(head.own_macs for head in heads))  # type: ignore[misc]

    def _features(self, features: Sequence[Tensor]) -> Tensor:
        deepest = features[-1].detach().float()
        form = self.config.feature_form
        distances = [feature_distance(one.float(), deepest, form) for one in features[:-1]]
        return self.config.feature_weight * torch.stack(distances).sum()

    def _gated(self, output: Output, logits: Sequence[Tensor], labels: Labels) -> dict[str, Tensor]:
        """Cross-entropy of the answer used, through the gates; each exit's own; and the target of exit rates."""
        stay = [d for d in output.decisions if d.gate.kind == "exit" and d.asked]
        each = [self.cross_entropy(one, labels, reduction="none") for one in logits]
        alive_B, used_B, rates = torch.ones_like(each[0]), torch.zeros_like(each[0]), []
        for one_B, decision in zip(each, stay, strict=False):
            on_B = decision.z_BU[:, 0].to(alive_B.dtype)  # already 0 for who left before
            used_B = used_B + (alive_B - on_B) * one_B
            rates.append((alive_B - on_B).mean())
            alive_B = on_B
        used_B = used_B + alive_B * each[-1]
        rate_K = torch.stack(rates)
        return {
            "cross_entropy": used_B.mean(),
            "exits": self.config.shallow_weight * torch.stack(each[:-1]).mean(1).sum(),
            "exit_rates": self.config.exit_loss_weight * exit_quad(rate_K, self.config.exit_target),
        }


def feature_distance(feature_BD: Tensor, deepest_BD: Tensor, form: str) -> Tensor:
    """Squared distance, summed over features: mean over images, or summed (the published code)."""
    squares = (deepest_BD.detach() - feature_BD).square().sum()
    return squares if form == "code_sum" else squares / len(feature_BD)


def exit_quad(rate_K: Tensor, t_K: Tensor | float) -> Tensor:
    """Mean over exits of (t_k - e_k)^2 where FEWER than t_k of the images leave: the opposite of const_quad."""
    return torch.relu(t_K - rate_K).square().mean()
