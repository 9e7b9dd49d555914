"""Gates that learn by policy gradient: hard draws, rewarded image by image for a right answer and for MACs saved.

Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning,
1992. As the second, hybrid stage of Wang, Yu, Dou, Darrell and Gonzalez, "SkipNet: Learning Dynamic Routing in
Convolutional Networks", ECCV, 2018: the network learns from the cross-entropy under the drawn gates, gates from their
reward. Differs: the reward counts MACs, not blocks, of all gates, not only of those behind; the mean cost of the
batch's other images is taken off; the first stage is a warm start or `open_warmup`.

Shapes: B images, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.policies import REINFORCE, Decision

REWARDED = ("utility", "none")  # losses that are a cost of each image by itself


def log_probability(decisions: Sequence[Decision]) -> Tensor:
    """(B,) of all that was drawn for each image, with gradient to the gates; 0 where nothing was."""
    found = []
    for decision in decisions:
        if decision.p_BU is None:
            continue
        z_BU = decision.z_BU.detach()
        p_BU = decision.p_BU.to(z_BU.dtype).expand_as(z_BU)
        found.append(-F.binary_cross_entropy(p_BU, z_BU, reduction="none").sum(1))
    return torch.stack(found).sum(0) if found else torch.zeros(())


def policy_gradient(cost_B: Tensor, decisions: Sequence[Decision]) -> Tensor:
    """A term whose gradient to the gates is, on average over draws, that of the mean expected cost.

    Its value means nothing. An image is compared with the mean cost of the others, which its own draw does not change.
    """
    cost_B = cost_B.detach().double()
    images = len(cost_B)
    others_B = (cost_B.sum() - cost_B) / (images - 1) if images > 1 else torch.zeros_like(cost_B)
    return ((cost_B - others_B) * log_probability(decisions)).mean()


def check_reinforce(config: Any) -> None:
    """Raise ValueError where a config's gates could not learn by their reward."""
    if config.estimator != REINFORCE:
        return
    if config.loss not in REWARDED:
        raise ValueError(
            f"estimator: {REINFORCE} rewards each image for its own answer and MACs, which loss {config.loss} is not; "
            "take loss utility, or none"
        )
    if getattr(config, "has_exits", False) and config.exit_decision == "gate":
        raise ValueError(
            f"estimator: {REINFORCE} cannot teach gates of exits; take exit_decision confidence, or no exits"
        )
