"""How much choosing on validation flatters an exported model: its validation accuracy minus its test accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from trainers.significance import Z


def selection_bias(
    validation: Mapping[str, Any], images: int, test: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference with its 95 % interval, as shares, from records with `accuracy`, test's with `images` too.

    Validation and test as independent binomials, the difference as normal; too narrow where an accuracy is close to 1.
    `exit_thresholds` is the validation record's own estimate of the part that choosing the exits' thresholds has in
    it, see search.measure.exit_points.selection_biases; None where nothing was chosen so.
    """
    difference = validation["accuracy"] - test["accuracy"]
    shares = (validation["accuracy"], images), (test["accuracy"], test["images"])
    reach = Z * sqrt(sum(share * (1 - share) / n for share, n in shares))
    return {
        "difference": difference,
        "low": difference - reach,
        "high": difference + reach,
        "validation_images": images,
        "test_images": test["images"],
        "exit_thresholds": validation.get("selection_bias"),
    }


def bias_text(bias: Mapping[str, Any]) -> str:
    """In points of accuracy: "+0.8 points [-0.4, +2.0]"."""
    difference, low, high = (100 * bias[name] for name in ("difference", "low", "high"))
    text = f"{difference:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if bias["exit_thresholds"] is None:
        return text
    return f"{text}; choosing exit thresholds, estimated on halves of validation: {100 * bias['exit_thresholds']:+.1f}"
