"""Targets over a training: steps, means, moving averages."""

from __future__ import annotations

from typing import Any

import pytest

from spaces.gates.targets import Target, TargetPlan


def target(schedule: str, **changes: Any) -> Target:
    return Target(
        TargetPlan(**dict[str, Any](schedule=schedule, end=0.8, epochs=100, steps=4) | changes)
    )


def followed(one: Target, epochs: int) -> list[float]:
    values = []
    for epoch in range(epochs):
        one.start_epoch(epoch)
        values.append(one.value)
    return values


def test_a_constant_target_is_constant_and_final() -> None:
    one = target("constant")
    one.after_step(0.1)
    assert followed(one, 5) == [0.8] * 5
    assert one.final


def test_steps_fall_to_the_end_and_stay_there() -> None:
    values = followed(target("step", anneal_step=0.05, anneal_every=0.05), 100)
    expected = [1.0] * 5 + [0.95] * 5 + [0.9] * 5 + [0.85] * 5 + [0.8] * 80
    assert values == expected


def test_steps_last_a_fraction_of_the_training_whatever_its_length() -> None:
    assert followed(target("step", anneal_step=0.1, epochs=20), 4) == [1.0, 0.9, 0.8, 0.8]
    assert followed(target("step", anneal_step=0.1, anneal_every=0.1, epochs=20), 5) == [
        1.0,
        1.0,
        0.9,
        0.9,
        0.8,
    ]
    assert followed(target("step", anneal_step=0.1, epochs=3), 3) == [1.0, 0.9, 0.8]


def test_a_stepping_target_is_final_from_the_epoch_it_reaches_its_end() -> None:
    one = target("step", anneal_step=0.1, epochs=20)
    final = []
    for epoch in range(4):
        one.start_epoch(epoch)
        final.append(one.final)
    assert final == [False, False, True, True]


def test_a_step_never_falls_below_the_end() -> None:
    assert min(followed(target("step", end=0.77, anneal_step=0.2), 100)) == 0.77


def test_the_moving_average_has_its_closed_form() -> None:
    one = target("ema", rho=0.9, start=0.7)
    seen = [0.2, 0.9, 0.4, 0.4, 0.6]
    for activation in seen:
        one.after_step(activation)
    weighted = sum(0.1 * 0.9 ** (len(seen) - 1 - i) * a for i, a in enumerate(seen))
    assert one.value == pytest.approx(0.9 ** len(seen) * 0.7 + weighted, rel=1e-12)
    assert one.final, "it does the same in every epoch: its compute is comparable from the start"


def test_the_mean_looks_back_over_its_window() -> None:
    one = target("mean", steps=4, window=0.5)
    values = []
    for activation in (0.2, 0.4, 0.8, 0.6):
        one.after_step(activation)
        values.append(one.value)
    assert values == pytest.approx([0.2, 0.3, 0.6, 0.7])
    whole = target("mean", steps=4)
    for activation in (0.2, 0.4, 0.8, 0.6):
        whole.after_step(activation)
    assert whole.value == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["mean", "ema"])
def test_a_variable_target_starts_every_epoch_anew(schedule: str) -> None:
    one = target(schedule, start=0.65)
    assert one.value == 0.65
    for activation in (0.1, 0.2):
        one.after_step(activation)
    one.start_epoch(1)
    assert one.value == 0.65
    fresh = target(schedule, start=0.65)
    for activation in (0.9, 0.7):
        one.after_step(activation)
        fresh.after_step(activation)
        assert one.value == fresh.value


def test_bounds_let_go_of_gates_in_the_first_third_while_the_target_stays() -> None:
    one, seen = target("bounds", epochs=12), []
    for epoch in range(6):
        one.start_epoch(epoch)
        seen.append((one.tightness, one.final))
        assert (one.value, one.left) == (0.8, 1.0), (
            "the rate of all gates together is asked for from the start"
        )
    assert [tightness for tightness, _ in seen] == pytest.approx(
        [1, 0.853553, 0.5, 0.146447, 0, 0], abs=1e-6
    )
    assert [final for _, final in seen] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("schedule", ["constant", "step", "mean", "ema", "bounds"])
def test_a_target_goes_on_from_its_state_in_the_middle_of_an_epoch(schedule: str) -> None:
    one, other = target(schedule), target(schedule)
    one.start_epoch(7)
    one.after_step(0.3)
    one.after_step(0.5)
    other.load(one.state())
    for activation in (0.9, 0.1, 0.2):
        one.after_step(activation)
        other.after_step(activation)
        assert other.value == one.value
