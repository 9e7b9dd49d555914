"""Points of a front, made by hand."""

from __future__ import annotations

from search.front import Point


def point(accuracy: float, macs: float, trial: int = 0, **more: object) -> Point:
    """A point of a searched trial; `more` are values of other fields."""
    values: dict = {
        "trial": trial,
        "family": "gated_resnet",
        "kind": "search",
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.01,
        "accuracy_high": accuracy + 0.01,
        "macs_mean": macs,
        "macs_p95": macs * 2,
        "macs_max": macs * 3,
        "parameters": 1000,
        "knobs": {"tau": 0.5},
        "params": {"backbone": "resnet20"},
    }
    return Point(**{**values, **more})
