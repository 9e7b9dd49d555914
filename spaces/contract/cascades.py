"""A cascade: trained networks one after another. One that is unsure of an image hands it on to the next.

Wang, Kondratyuk, Christiansen, Kitani, Alon and Eban, "Wisdom of Committees: An Overlooked Approach To Faster and More
Accurate Models", ICLR, 2022. There the answer is the mean of all members that ran; here it may also be the last one's
alone, and confidence the margin of the two highest probabilities.

torch is imported where tensors are made: who only reads a stored setting does without it.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CASCADE = "cascade"  # what stands for a policy in its knobs, and for a family in its record
RULES = ("maxprob", "margin")


@dataclass(frozen=True, kw_only=True)
class CascadeRule:
    """When a member's answer is taken: its confidence, by `rule`, is above its threshold. The last one's always is.

    `thresholds` has one entry a member but the last. `committee`: the answer of a member is the mean of the
    probabilities of all that ran, its own among them.
    """

    rule: str
    thresholds: tuple[float, ...]
    committee: bool

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: {self.rule} is not one of {', '.join(RULES)}")

    def answer(self, member: int, before_BC: Tensor, own_BC: Tensor) -> Tensor:
        """(B, C) what is answered after a member, from 1, from what was answered before it and its probabilities."""
        if not self.committee:
            return own_BC
        return before_BC + (own_BC - before_BC) / (member + 1)

    def goes_on(self, threshold: float | Tensor, answer_BC: Tensor) -> Tensor:
        """(B,) bool: whose answer is unsure, at the threshold of the member that gave it."""
        return self.confidence(answer_BC).double() <= threshold

    def confidence(self, answer_BC: Tensor) -> Tensor:
        """(B,) how sure an answer is, from its probabilities."""
        top = answer_BC.topk(min(2, answer_BC.shape[1]), 1).values
        return top[:, 0] if self.rule == "maxprob" else top[:, 0] - top[:, -1]


def is_cascade(knobs: Mapping[str, Any]) -> bool:
    """Whether these are the knobs of a cascade."""
    return knobs.get("policy") == CASCADE


def rule_of(knobs: Mapping[str, Any]) -> CascadeRule:
    """The rule in a cascade's knobs."""
    return CascadeRule(
        rule=knobs["rule"], thresholds=tuple(knobs["thresholds"]), committee=knobs["committee"]
    )
