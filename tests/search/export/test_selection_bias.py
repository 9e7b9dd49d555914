"""What choosing on validation is worth: validation minus test accuracy with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from search.export.selection_bias import bias_text, selection_bias


def test_the_difference_and_its_interval_by_hand() -> None:
    found = selection_bias({"accuracy": 0.9}, 100, {"accuracy": 0.8, "images": 400})
    assert found["difference"] == pytest.approx(0.1)
    reach = 1.959964 * (0.09 / 100 + 0.16 / 400) ** 0.5
    assert (found["low"], found["high"]) == (pytest.approx(0.1 - reach), pytest.approx(0.1 + reach))
    assert bias_text(found) == "+10.0 points [+2.9, +17.1]"


def test_the_interval_holds_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(0), 0
    for validation, test in zip(
        draw.binomial(300, 0.9, 4000), draw.binomial(600, 0.9, 4000), strict=True
    ):
        found = selection_bias(
            {"accuracy": validation / 300}, 300, {"accuracy": test / 600, "images": 600}
        )
        held += found["low"] <= 0 <= found["high"]
    assert held / 4000 == pytest.approx(0.95, abs=0.012)


def test_the_estimate_for_exit_thresholds_stands_beside_it() -> None:
    found = selection_bias(
        {"accuracy": 0.9, "selection_bias": 0.004}, 100, {"accuracy": 0.9, "images": 100}
    )
    assert bias_text(found).endswith(
        "; choosing thresholds, estimated on halves of validation: +0.4"
    )
