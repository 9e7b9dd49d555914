"""How much choosing on validation flatters an exported model: its validation accuracy minus its test accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from trainers.metrics import ACCURACY, Metric
from trainers.significance import Share, Z, difference_of


def selection_bias(
    validation: Mapping[str, Any], images: int, test: Mapping[str, Any], metric: Metric = ACCURACY
) -> dict[str, Any]:
    """The difference with its 95 % interval, as shares, from records with `accuracy`, test's with `images` too.

    Validation and test as independent binomials, the difference as normal; too narrow where an accuracy is close to 1.
    Where the metric is no share of images, from the two intervals as in `difference_of`.
    `exit_thresholds` is the validation record's own estimate of the part that choosing the exits' thresholds has in
    it, see search.measure.exit_points.selection_biases; None where nothing was chosen so. `foreseen` is what was to be
    expected of choosing thresholds and of the pick, see search.front.flattery; None where that is not known.
    """
    expected = validation.get("expected")
    if metric.of_classes:
        difference, low, high = difference_of(_share(validation), _share(test))
    else:
        difference = validation["accuracy"] - test["accuracy"]
        shares = (validation["accuracy"], images), (test["accuracy"], test["images"])
        reach = Z * sqrt(sum(share * (1 - share) / n for share, n in shares))
        low, high = difference - reach, difference + reach
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "validation_images": images,
        "test_images": test["images"],
        "exit_thresholds": validation.get("selection_bias"),
        "foreseen": None if expected is None else validation["accuracy"] - expected,
    }


def _share(measured: Mapping[str, Any]) -> Share:
    return Share(*(measured[key] for key in ("accuracy", "accuracy_low", "accuracy_high")))


def bias_text(bias: Mapping[str, Any], metric: Metric = ACCURACY) -> str:
    """In points of the metric: "+0.8 points [-0.4, +2.0]"."""
    difference, low, high = (100 * bias[name] for name in ("difference", "low", "high"))
    text = f"{difference:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if (foreseen := bias.get("foreseen")) is not None:
        return f"{text}; {100 * foreseen:+.1f} foreseen, from halves of validation and from resampled images"
    if bias["exit_thresholds"] is None:
        return text
    of = "" if metric is ACCURACY else " of top-1 accuracy"
    exits = f"{100 * bias['exit_thresholds']:+.1f}{of}"
    return f"{text}; choosing thresholds, estimated on halves of validation: {exits}"
