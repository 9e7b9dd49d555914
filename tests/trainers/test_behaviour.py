"""What methods do when they are trained: small, stochastic, with generous margins."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from trainers.data.splits import DataSpec, ImageData, load
from trainers.evaluate import evaluate
from trainers.fit import EpochResult, fit

pytestmark = pytest.mark.slow
GATED = {"backbone": "resnet14", "width": 0.25, "batch": 64, "lr": 0.1, "augment": False}
VIT = {
    "layers": 4,
    "dim": 32,
    "head_dim": 16,
    "mlp_ratio": 2,
    "patch": 2,
    "batch": 32,
    "adamw_lr": 3e-3,
    "augment": False,
}


@cache
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.25))


def trained(name: str, epochs: int, **values: Any) -> tuple[DynamicNet, EpochResult]:
    candidate = Candidate.of(family(name), values, epochs)
    net = candidate.build(task_of(digits()), 0)
    *_, last = fit(net, digits(), candidate.recipe, seed=1)
    return net, last


def spread(result: EpochResult) -> float:
    rates = list(result.gate_rates.values())
    mean = sum(rates) / len(rates)
    return sum((r - mean) ** 2 for r in rates) / len(rates)


def test_a_per_batch_target_is_met_and_lets_gates_differ_more_than_a_per_gate_one() -> None:
    results = {
        loss: trained("gated_resnet", 12, loss=loss, target=0.5, loss_weight=10.0, **GATED)[1]
        for loss in ("per_batch", "per_gate")
    }
    for result in results.values():
        assert result.metrics["train/open"] == pytest.approx(0.5, abs=0.07)
    assert spread(results["per_batch"]) > spread(results["per_gate"])


def test_more_pressure_on_channel_gates_opens_fewer() -> None:
    opened = [
        trained(
            "gated_resnet", 6, granularity="channel", loss="target_free", gamma_channel=g, **GATED
        )[1].metrics["train/open"]
        for g in (0.003, 0.5)
    ]
    assert opened == sorted(opened, reverse=True)
    assert opened[0] - opened[-1] > 0.05


def test_the_loss_on_scores_closes_more_layers_than_the_one_on_logits() -> None:
    opened = {
        loss: trained("skip_vit", 8, loss=loss, skip_weight=1.0, **VIT)[1].metrics["train/open"]
        for loss in ("score_sq", "logit_sq")
    }
    assert opened["score_sq"] < opened["logit_sq"] - 0.1


def test_shuffled_training_survives_an_arbitrary_order_and_plain_training_does_not() -> None:
    accuracy = {}
    for order in ("shuffle", "identity"):
        net, _ = trained("shuffled_vit", 30, order_train=order, **VIT)
        table = evaluate(
            net, digits().validation, digits(), Knobs(order="arbitrary", passes=10), seed=5
        )
        accuracy[order] = table.accuracy
    chance = 0.1
    assert accuracy["shuffle"] > 5 * chance
    assert accuracy["shuffle"] > accuracy["identity"] + chance


def test_lower_thresholds_send_more_images_to_the_first_exit() -> None:
    net, _ = trained("multi_exit", 3, backbone="resnet18", width=0.125, batch=64)
    costs = []
    for level in (1.0, 0.8, 0.4, -1.0):
        knobs = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(level,) * 3)
        costs.append(evaluate(net, digits().validation, digits(), knobs).macs_mean)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.6 * costs[0]
