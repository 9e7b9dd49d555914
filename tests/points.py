"""Operating points made by hand, for tests of what is done with them."""

from __future__ import annotations

from typing import Any

from storage.records import Kind, OperatingPoint, PointRecord


def operating_point(accuracy: float = 0.8, macs: float = 1e6, **more: Any) -> OperatingPoint:
    """The setting that a network was trained for, with equal mean, p95 and maximum of MACs."""
    values = {
        "knobs": {"policy": "threshold", "tau": 0.5},
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.01,
        "accuracy_high": accuracy + 0.01,
        "macs_mean": macs,
        "macs_p95": macs,
        "macs_max": macs,
        "parameters": 10,
        "chosen": True,
        "extra": {"rates": {}},
    }
    return OperatingPoint(**{**values, **more})


def point(accuracy: float, macs: float, trial: int = 0, **more: Any) -> PointRecord:
    """A point of a searched trial, whose p95 and maximum of MACs are above the mean; `more` are other fields."""
    values = {
        "trial": trial,
        "kind": Kind.SEARCH,
        "family": "gated_resnet",
        "params": {"backbone": "resnet20"},
        "knobs": {"tau": 0.5},
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.01,
        "accuracy_high": accuracy + 0.01,
        "macs_mean": macs,
        "macs_p95": macs * 2,
        "macs_max": macs * 3,
        "parameters": 1000,
    }
    return PointRecord(**{**values, **more})
