"""Batch-shaping: zero where gates follow the prior, a gradient towards it where they do not."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta
from scipy.stats import beta as prior

from spaces.gates.batch_shaping import batch_shaping


def test_the_loss_is_the_squared_distance_of_distributions() -> None:
    p = torch.tensor([[0.9, 0.2], [0.1, 0.8], [0.5, 0.4]])
    expected = 0.0
    for column in p.T.tolist():
        for i, x in enumerate(sorted(column), 1):
            expected += (prior.cdf(x, 0.6, 0.4) - i / 4) ** 2 / 6
    assert float(batch_shaping(p, 0.6, 0.4)) == pytest.approx(expected, abs=1e-4)


def test_gates_that_follow_the_prior_lose_next_to_nothing_and_collapsed_ones_much() -> None:
    ranks = torch.arange(1, 257) / 257
    shaped = torch.tensor(beta.ppf(ranks.numpy(), 0.6, 0.4))[:, None]
    assert float(batch_shaping(shaped, 0.6, 0.4)) < 1e-5
    assert float(batch_shaping(torch.full((256, 1), 0.97), 0.6, 0.4)) > 0.05


def test_the_gradient_is_the_density_kept_finite() -> None:
    p = torch.tensor([[0.3], [0.7]], requires_grad=True)
    batch_shaping(p, 0.6, 0.4).backward()
    for row, (x, rank) in enumerate(((0.3, 1 / 3), (0.7, 2 / 3))):
        expected = (prior.cdf(x, 0.6, 0.4) - rank) * prior.pdf(x, 0.6, 0.4)
        assert float(p.grad[row]) == pytest.approx(expected, rel=1e-2)
    ends = torch.tensor([[0.0], [1.0]], requires_grad=True)
    batch_shaping(ends, 0.6, 0.4).backward()
    assert torch.isfinite(ends.grad).all()


def test_following_the_gradient_spreads_a_collapsed_gate() -> None:
    torch.manual_seed(0)
    logits = (2.5 + 0.1 * torch.randn(128, 1)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        batch_shaping(torch.sigmoid(logits), 0.6, 0.4).backward()
        optimizer.step()
    p = torch.sigmoid(logits.detach())
    assert float(p.min()) < 0.2
    assert float(p.mean()) == pytest.approx(0.6, abs=0.1)
