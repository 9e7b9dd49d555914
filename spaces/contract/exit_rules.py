"""When an image leaves at an early exit: rules that read an exit's answer.

Maximum probability: Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks Framework Towards Compact
and Efficient Models", NeurIPS, 2019. Entropy: Teerapittayanon, McDanel and Kung, "BranchyNet", ICPR, 2016. Patience:
Zhou, Xu, Ge, McAuley, Xu and Wei, "BERT Loses Patience", NeurIPS, 2020. The judge is a logistic regression on what the
others read.

Every rule is a confidence in [0, 1] that is compared (strictly) with a threshold per exit, so that thresholds can be
searched on tables of confidences.

torch is imported where tensors are made: who only reads a stored setting does without it.

Shapes: B images, C classes, K early exits (the network's own head is not one of them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RULES = ("maxprob", "entropy", "margin", "patience", "judge")
FALLBACKS = ("deepest", "ensemble")
JUDGED = 4  # what a judge reads of an exit: maximum probability, margin, certainty, agreement with the exit before


@dataclass(frozen=True, kw_only=True)
class ExitRule:
    """Leave at exit k when its confidence is above thresholds[k].

    `thresholds` has one entry an early exit, and may have one more for the network's own head: an image below that one
    too is answered by the fallback. `fallback`: the deepest head, or the ensemble (mean logits of all heads).
    `temperatures` divide each exit's logits first. `judges` are, for each exit, JUDGED weights and a bias.
    `every`: all exits are evaluated and nobody leaves, as in training and to fill tables.
    """

    rule: str = "maxprob"
    thresholds: tuple[float | Tensor, ...] = ()
    fallback: str = "deepest"
    temperatures: tuple[float, ...] = ()
    judges: tuple[tuple[float, ...], ...] = ()
    every: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"exit_rule: {self.rule} is not one of {', '.join(RULES)}")
        if self.fallback not in FALLBACKS:
            raise ValueError(f"fallback: {self.fallback} is not one of {', '.join(FALLBACKS)}")
        if self.rule == "judge" and not self.every and len(self.judges) < len(self.thresholds):
            raise ValueError(
                f"judges: {len(self.judges)} for {len(self.thresholds)} thresholds; give one an exit"
            )
        if self.temperatures and len(self.temperatures) < len(self.thresholds):
            given, needed = len(self.temperatures), len(self.thresholds)
            raise ValueError(
                f"temperatures: {given} for {needed} thresholds; give one an exit, or none"
            )

    @property
    def ends_at(self) -> int | None:
        """The first exit at which all images leave, for its threshold is below any confidence; None: there is none."""
        ends = (k for k, t in enumerate(self.thresholds) if isinstance(t, int | float) and t < 0)
        return None if self.every else next(ends, None)

    def confidence(self, exit: int, logits: Sequence[Tensor]) -> Tensor:
        """(B,) how sure exit number `exit` is of its answer; `logits` are those of the exits up to and with it.

        Fewer than exit + 1 where exits before it were passed without a look.
        """
        import torch

        logits = logits[: exit + 1]
        here = logits[-1].float()
        if self.temperatures:
            here = here / self.temperatures[exit]
        if self.rule == "maxprob":
            return here.softmax(1).amax(1)
        if self.rule == "margin":
            return margin(here)
        if self.rule == "entropy":
            return certainty(here)
        if self.rule == "patience":
            return agreement(logits)
        weights = torch.tensor(self.judges[exit], device=here.device)
        # a sum of products, which autocast leaves alone: a matrix product would be rounded
        return torch.sigmoid((judged(here, agreement(logits)) * weights[:-1]).sum(1) + weights[-1])

    def leaves(self, exit: int, logits: Sequence[Tensor]) -> Tensor:
        """(B,) bool: who is answered by exit number `exit`."""
        if self.every or exit >= len(self.thresholds):
            import torch

            return torch.zeros(logits[-1].shape[0], dtype=torch.bool, device=logits[-1].device)
        # thresholds were found in float64
        return self.confidence(exit, logits).double() > self.thresholds[exit]


def answered(
    rule: ExitRule, logits: Sequence[Tensor], macs: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits (B, C) and MACs (B,) of whichever exit answers each image, where all of them were evaluated.

    `logits` (B, C) and `macs` (B,) have an entry an early exit and one for the deepest head.
    """
    import torch

    early, found_BC, paid_B = len(logits) - 1, logits[-1], macs[-1]
    if rule.fallback == "ensemble" and rule.ends_at is None:
        sure_B = rule.leaves(early, logits)
        found_BC = torch.where(sure_B[:, None], found_BC, torch.stack(list(logits)).mean(0))
    for k in reversed(range(early)):
        leaves_B = rule.leaves(k, logits)
        found_BC = torch.where(leaves_B[:, None], logits[k], found_BC)
        paid_B = torch.where(leaves_B, macs[k], paid_B)
    return found_BC, paid_B


def margin(logits_BC: Tensor) -> Tensor:
    """(B,) difference of the two highest probabilities."""
    top = logits_BC.softmax(1).topk(min(2, logits_BC.shape[1]), 1).values
    return top[:, 0] - top[:, -1]


def certainty(logits_BC: Tensor) -> Tensor:
    """(B,) 1 minus the entropy over its maximum: 1 for one sure class, 0 for all classes alike."""
    log_p = logits_BC.log_softmax(1)
    return 1 + (log_p.exp() * log_p).sum(1) / math.log(logits_BC.shape[1])


def agreement(logits: Sequence[Tensor]) -> Tensor:
    """(B,) how many exits right before the last one give its answer, over the number of exits: 0 at the first exit."""
    import torch

    answers = [one.argmax(1) for one in logits]
    streak = torch.zeros_like(answers[0], dtype=torch.float32)
    running = torch.ones_like(streak)
    for earlier in reversed(answers[:-1]):
        running = running * (earlier == answers[-1])
        streak = streak + running
    return streak / len(answers)


def judged(logits_BC: Tensor, agreed_B: Tensor) -> Tensor:
    """(B, JUDGED) what a judge reads of one exit."""
    import torch

    p_B = logits_BC.softmax(1).amax(1)
    return torch.stack([p_B, margin(logits_BC), certainty(logits_BC), agreed_B], 1)
