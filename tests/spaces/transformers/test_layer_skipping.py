"""What the gates of transformer layers read of the gates before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.policies import Threshold
from spaces.contract.registry import family
from spaces.transformers.routed_vit import RoutedViT
from tests.spaces.variants import COLOUR, VARIANTS


@pytest.mark.parametrize("logit", [0.8, -0.8])
@pytest.mark.parametrize("history", ["soft", "hard", "none"])
def test_an_oracle_reads_scores_or_decisions_or_nothing_of_the_one_before_it(
    images: Callable[..., Tensor], history: str, logit: float
) -> None:
    values: dict[str, Any] = VARIANTS["skip_vit"][0] | {"dt_always": "none", "dt_history": history}
    net = Candidate.of(family("skip_vit"), values, 4).build(COLOUR, 0).double().eval()
    assert isinstance(net, RoutedViT)
    with torch.no_grad():
        for parameter in net.gate_parameters():
            parameter.zero_()
        net.oracles["0"].head.bias.fill_(logit)
        net.oracles["1"].head.bias.fill_(0.25)
        net.oracles["1"].head.weight[:, 32:] = (
            2.5  # what stands behind the class token is the history
        )
    score, decision = 1 / (1 + torch.tensor(-logit).double().exp().item()), float(logit > 0)
    heard = {"soft": 2.5 * score, "hard": 2.5 * decision, "none": 0.0}[history]
    logits = net(images(3, COLOUR), Threshold()).extra["oracle_logits"][1]
    assert logits.flatten().tolist() == pytest.approx([0.25 + heard] * 3)
