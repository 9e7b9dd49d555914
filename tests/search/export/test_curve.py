"""Which operating points one exported file carries, and which of them answers."""

from __future__ import annotations

from typing import Any

import pytest

from search.export.curve import LARGEST, siblings
from search.export.points import thresholds_for
from search.objectives import MACS
from storage.records import PointRecord
from tests.points import point


def tau(value: float, accuracy: float, macs: float, **more: Any) -> PointRecord:
    knobs = {"policy": "threshold", "tau": value, **more.pop("knobs", {})}
    return point(accuracy, macs, **{"knobs": knobs, **more})


def test_points_of_the_training_that_differ_in_thresholds_come_along() -> None:
    chosen = tau(0.5, 0.9, 1e6)
    beaten = tau(0.6, 0.8, 2e6)
    cheaper = tau(0.7, 0.85, 5e5)
    other_weights = [
        tau(0.7, 0.86, 4e5, knobs={"recalibrate": "same", "recalibration_batches": 8}),
        tau(0.7, 0.86, 4e5, knobs={"prune": 0.1}),
        tau(0.7, 0.86, 4e5, knobs={"keep": [0, 1]}),
        tau(0.7, 0.86, 4e5, trial=1),
    ]
    assert siblings(chosen, [chosen, beaten, cheaper, *other_weights], (MACS,)) == [cheaper]
    assert siblings(other_weights[1], [chosen, cheaper], (MACS,)) == []


def test_exits_of_another_rule_or_number_stay_out() -> None:
    def exits(rule: str, *levels: float, accuracy: float) -> PointRecord:
        knobs = {"policy": "always_on", "exit_rule": rule, "exit_thresholds": list(levels)}
        return point(accuracy, accuracy * 1e6, knobs=knobs)

    chosen, alike = (
        exits("maxprob", 0.5, 0.6, accuracy=0.8),
        exits("maxprob", 0.9, 0.9, accuracy=0.9),
    )
    others = [exits("margin", 0.5, 0.6, accuracy=0.95), exits("maxprob", 0.5, accuracy=0.7)]
    assert siblings(chosen, [chosen, alike, *others], (MACS,)) == [alike]


def test_of_many_points_a_spread_from_the_cheapest_to_the_best_is_carried() -> None:
    many = [tau(n / 100, 0.5 + n / 1000, 1e5 + n * 1e3) for n in range(1, 60)]
    found = siblings(many[30], many, (MACS,))
    assert len(found) == LARGEST - 1
    assert (found[0], found[-1]) == (many[0], many[-1])


def row(number: int, accuracy: float, macs: float) -> dict[str, Any]:
    validation = {"accuracy": accuracy, "macs_mean": macs}
    return {"number": number, "thresholds": [number / 10], "validation": validation}


CURVE = {"points": [row(1, 0.8, 1e6), row(2, 0.9, 2e6), row(3, 0.89, 3e6)]}


def test_a_point_is_chosen_by_number_or_as_the_best_within_a_budget() -> None:
    assert thresholds_for(CURVE) is None
    assert thresholds_for(CURVE, point=1) == [0.1]
    assert thresholds_for(CURVE, max_macs=5e6) == [0.2]
    assert thresholds_for(CURVE, max_macs=1.5e6) == [0.1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"point": 4}, "point 4: the model has points 1 to 3"),
        ({"max_macs": 5e5}, "500 k MACs: the model's cheapest point takes 1.00 M"),
        ({"point": 1, "max_macs": 5e5}, "give a point or a limit of MACs, not both"),
    ],
)
def test_what_the_file_does_not_have_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thresholds_for(CURVE, **given)


def test_a_model_from_before_files_carried_points_says_so() -> None:
    with pytest.raises(ValueError, match="has one operating point"):
        thresholds_for({}, point=1)
