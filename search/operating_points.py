"""The operating points of one training: what the same weights do under different run-time knobs.

A gate's decision changes what later gates see, so each threshold is a real pass over the validation split.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spaces.net import DynamicNet, Knobs
from trainers.data import ImageData
from trainers.evaluate import Table, evaluate, recalibrated
from trainers.execution import Execution

TAUS = (0.5, 0.1, 0.3, 0.4, 0.6, 0.7, 0.9)  # the first is the setting that the sampler is told
RECALIBRATION_BATCHES = 20
PASSES = 3  # of the stochastic policy
PRUNE = 0.01


def operating_points(
    net: DynamicNet, data: ImageData, *, batch: int, execution: Execution, seed: int, augment: bool = True
) -> list[dict[str, Any]]:
    """Every point measured on validation; the first is the one that represents the training.

    A point is accuracy with its 95 % interval, mean, p95 and max MACs, parameters, knobs and measured gate rates.
    A network without gates has one.
    """
    parameters = sum(p.numel() for p in net.parameters())

    def point(used: DynamicNet, knobs: Knobs, rates: Any = None) -> dict[str, Any]:
        table = evaluate(used, data.validation, data, knobs, execution=execution, rates=rates, seed=seed)
        return _point(knobs, table, parameters, rates)

    if not net.gates:
        return [point(net, Knobs(policy="always_on"))]
    points = [point(net, Knobs(tau=tau)) for tau in TAUS]
    rates = points[0]["extra"]["rates"]
    points.append(point(net, Knobs(policy="always_on")))
    points.append(point(net, Knobs(policy="scaled_on"), rates))
    points.append(point(net, Knobs(policy="stochastic", passes=PASSES)))
    points.append(point(net, Knobs(policy="ensemble", passes=PASSES)))
    if any(r <= PRUNE or r >= 1 - PRUNE for units in rates.values() for r in units):
        points.append(point(net, Knobs(prune=PRUNE), rates))
    for knobs in _worth_recalibrating(points):
        fresh = recalibrated(net, data, knobs, batch=batch, execution=execution, seed=seed, augment=augment)
        points.append(point(fresh, knobs))
    return points


def _worth_recalibrating(points: list[dict[str, Any]]) -> list[Knobs]:
    """Batch norm saw sampled gates in training: refresh it for the first threshold and for the cheapest good one."""
    base = Knobs(recalibrate="same", recalibration_batches=RECALIBRATION_BATCHES)
    best = max(p["accuracy"] for p in points)
    thresholds = [p for p in points if p["knobs"]["policy"] == "threshold" and "prune" not in p["knobs"]]
    good = [p for p in thresholds if p["accuracy"] >= best - 0.05] or thresholds
    cheapest = min(good, key=lambda p: p["macs_mean"])["knobs"]["tau"]
    found = [replace(base, tau=tau) for tau in dict.fromkeys((TAUS[0], cheapest))]
    return [*found, replace(base, recalibrate="sample")]


def _point(knobs: Knobs, table: Table, parameters: int, rates: Any) -> dict[str, Any]:
    low, high = table.interval
    return {
        "knobs": knobs.as_dict(),
        "accuracy": table.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macs_mean": table.macs_mean,
        "macs_p95": table.macs_p95,
        "macs_max": table.macs_max,
        "parameters": parameters,
        # rates that the knobs were set with (prune, scale), else those measured under them
        "extra": {
            "rates": {k: list(v) for k, v in (rates or table.rates).items()},
            "accuracy_std": table.accuracy_std,
        },
    }
