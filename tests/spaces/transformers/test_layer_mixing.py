"""How layers of transformers mix the layers before them.

Shapes: B images, N tokens, D width, L layers.
"""

from __future__ import annotations

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.transformers.layer_mixing import Mixing, MixingConfig, dropout_rates, dropped
from tests.spaces.transformers.vits import SMALL, TASK, Draw, vit


def test_weights_sum_to_1_and_the_last_biased_start_is_nearly_the_baseline(images: Draw) -> None:
    net = vit("dense_vit", aggregator="wdc")
    for weights in net(images(6, TASK)).extra["mixing"]:
        torch.testing.assert_close(weights.sum(1), torch.ones(6))
        assert (weights[:, -1] > 0.8).all()
    plain = Candidate.of(family("dense_vit"), SMALL, 4).baseline().build(TASK, 0).double().eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        for mixing in net.mixings:
            mixing.oracle.bias[-1] = 1e4
    torch.testing.assert_close(
        net(images(6, TASK)).logits_BC, plain(images(6, TASK)).logits_BC, rtol=1e-10, atol=1e-10
    )


def test_the_first_layer_reads_the_embedding_alone() -> None:
    assert len(vit("dense_vit").mixings) == SMALL["layers"] - 1


def test_dropout_of_dense_weights_rises_quadratically_from_0() -> None:
    rates = dropout_rates("quadratic", 0.25, 10)
    published = [0.0, 0.0031, 0.0123, 0.0278, 0.0494, 0.0772, 0.1111, 0.1512, 0.1975, 0.25]
    assert rates == pytest.approx(published, abs=5e-5)
    assert dropout_rates("linear", 0.2, 3) == pytest.approx([0.0, 0.1, 0.2])
    assert dropout_rates("const", 0.2, 3) == [0.0, 0.2, 0.2]


def test_dropped_weights_have_the_right_mean_and_are_never_all_gone() -> None:
    torch.manual_seed(0)
    w = torch.tensor([0.5, 0.3, 0.2]).expand(40_000, 3)
    kept = dropped(w, 0.25, renormalize=False)
    assert (
        kept.mean(0) - w[0]
    ).abs().max() < 0.02  # the largest stays where all would go: 0.25^3 of the time
    assert (dropped(w, 0.9, renormalize=False).sum(1) > 0).all()
    torch.testing.assert_close(dropped(w, 0.5, renormalize=True).sum(1), torch.ones(40_000))


def test_weights_are_dropped_in_training_only() -> None:
    mixing = Mixing(MixingConfig(aggregator="wsdc"), 8, 3, 0.5).double()
    sources = [torch.randn(64, 2, 8, dtype=torch.float64) for _ in range(3)]
    assert torch.equal(mixing.eval()(sources)[1], mixing.eval()(sources)[1])
    assert not torch.equal(mixing.train()(sources)[1], mixing.eval()(sources)[1])
