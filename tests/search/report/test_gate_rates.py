"""The picture of gate rates over a training."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from search.report.gate_rates import gate_rates_png


@pytest.mark.parametrize("gates", [1, 12, 13, 120])
@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_gate_rates_are_drawn_for_few_and_many_gates_and_epochs(gates, epochs):
    rates = {f"stage_{i}.$gate_$": [i / gates] * epochs for i in range(gates)}
    png = gate_rates_png("trial 7", list(range(epochs)), rates)
    assert Image.open(io.BytesIO(png)).size == (1196, 702)


def test_gate_rates_change_the_picture():
    def drawn(rate: float, gates: int) -> bytes:
        return gate_rates_png("t", [0, 1], {f"g{i}": [1.0, rate] for i in range(gates)})

    assert drawn(0.2, 3) != drawn(0.8, 3)
    assert drawn(0.2, 20) != drawn(0.8, 20)


@pytest.mark.parametrize(
    ("epochs", "rates", "message"),
    [
        ([0], {}, "no gate rates to draw"),
        ([], {"g": []}, "no gate rates to draw"),
        (
            [0, 1],
            {"g0": [0.5, 0.5], "g1": [0.5]},
            r"^gate g1 has 1 rates for 2 epochs; give one each$",
        ),
    ],
)
def test_gate_rates_that_cannot_be_drawn_are_refused(epochs, rates, message):
    with pytest.raises(ValueError, match=message):
        gate_rates_png("t", epochs, rates)
