"""Early stopping at rungs: who goes on, replayed on trainings whose curves are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front.curves import inside, own_front
from search.schedule.early_stopping import KNOWN, EarlyStopping, rung_epochs
from tests.search.schedule.trainings import AT, Training, curve, replay, trainings


def owners(found: list[Training]) -> set[int]:
    """The trainings that have a point of the front, within the box, which no other has too."""
    fronts = [{tuple(p) for p in own_front(inside(one.curve)).tolist()} for one in found]
    whole = {
        tuple(p) for p in own_front(np.concatenate([inside(one.curve) for one in found])).tolist()
    }
    return {
        n
        for n, mine in enumerate(fronts)
        if any(p in whole and sum(p in f for f in fronts) == 1 for p in mine)
    }


@given(trainings())
def test_without_noise_no_training_that_owns_a_point_of_the_front_is_stopped(
    found: list[Training],
) -> None:
    answers = replay(EarlyStopping(), found)
    assert owners(found) <= {number for number, go_on in answers.items() if go_on}


def test_a_target_that_still_falls_makes_compute_cheaper_and_not_parameters() -> None:
    def goes_on(outlook: float | list[float]) -> bool:
        rungs = EarlyStopping()
        for number in range(KNOWN):
            rungs.report(number, "a", AT, curve((0.2, 0.3, 0.3)))
            rungs.ended(number, "a", curve((0.2, 0.3, 0.3)))
        return rungs.report(KNOWN, "a", AT, curve((0.2, 0.9, 0.9)), outlook)

    assert not goes_on([1.0, 1.0])
    assert goes_on([0.2, 1.0])
    assert goes_on(0.2)
    assert not goes_on([0.4, 1.0])


@given(trainings(("a", "b")), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.5, 0.75]))
def test_families_that_learn_at_their_own_speed_keep_their_place_on_the_front(
    found: list[Training], slow: float, fast: float
) -> None:
    rungs, gains, stopped = EarlyStopping(), {"a": slow, "b": fast}, set()
    # those that began within the box
    found = [one for one in found if (one.curve[:, 0] < gains[one.family]).all()]
    for number, one in enumerate(found):
        then = one.curve.copy()
        then[:, 0] /= gains[one.family]
        if rungs.report(number, one.family, AT, then):
            rungs.ended(number, one.family, one.curve)
        else:
            stopped.add(number)
    assert not found or not owners(found) & stopped


@given(trainings())
def test_a_training_that_cannot_say_what_it_will_cost_is_never_stopped(
    found: list[Training],
) -> None:
    rungs = EarlyStopping()
    for number, one in enumerate(found):
        assert rungs.report(number, one.family, AT, one.curve, None)
        rungs.ended(number, one.family, one.curve)


@given(trainings(("a",)))
def test_nobody_is_stopped_before_enough_of_the_family_have_ended(found: list[Training]) -> None:
    rungs, ended = EarlyStopping(), 0
    for number, one in enumerate(found):
        go_on = rungs.report(number, one.family, AT, one.curve)
        assert go_on or ended >= KNOWN
        if go_on:
            rungs.ended(number, one.family, one.curve)
            ended += 1


@given(trainings(("a",)), st.integers(1, 3), st.integers(1, 3))
def test_the_cheapest_and_the_most_accurate_are_never_stopped(
    found: list[Training], loss: int, cost: int
) -> None:
    sizes = {one.curve.shape[1] for one in found}
    rungs = EarlyStopping()
    replay(rungs, found)
    (size,) = sizes
    floor = np.concatenate([one.curve for one in found]).min(0)
    accurate = curve((floor[0] - 0.01, *[0.9] * (size - 1)))
    assert rungs.report(100, "a", AT, accurate) or floor[0] - 0.01 >= 1
    if size > 1:
        cheap = curve((loss / 4, floor[1] - 0.01, *[0.9] * (size - 2)))
        assert rungs.report(101, "a", AT, cheap) or floor[1] - 0.01 >= 1


def known(count: int = KNOWN, family: str = "a") -> EarlyStopping:
    """It knows so many trainings of a family, all alike: loss 0.4 at the rung and 0.2 at the end, cost 0.5."""
    rungs = EarlyStopping()
    for number in range(count):
        rungs.report(number, family, AT, curve((0.4, 0.5)))
        rungs.ended(number, family, curve((0.2, 0.5)))
    return rungs


def test_a_training_is_credited_with_what_its_family_learned_since_the_rung() -> None:
    assert known().report(10, "a", AT, curve((0.39, 0.5)))
    assert not known().report(10, "a", AT, curve((0.41, 0.5)))


@pytest.mark.parametrize(("ended", "goes_on"), [(3, True), (30, False)])
def test_the_fewer_of_a_family_have_ended_the_more_its_next_is_hoped_to_learn(
    ended: int, goes_on: bool
) -> None:
    rungs = EarlyStopping()
    for number in range(ended):
        rungs.report(number, "a", AT, curve((0.8, 0.5)), decided=True)
        rungs.ended(number, "a", curve((0.8 * (0.4, 0.5, 0.6)[number % 3], 0.5)))
    # better than the best of them if its loss shrinks to less than a third: none did, but of three that says little
    assert rungs.report(100, "a", AT, curve((0.95, 0.5))) is goes_on


def test_a_family_that_only_got_worse_does_not_speak_against_a_training_that_is_ahead_already() -> (
    None
):
    rungs = EarlyStopping()
    for number in range(KNOWN):
        rungs.report(number, "a", AT, curve((0.4, 0.5)), decided=True)
        rungs.ended(number, "a", curve((0.5, 0.5)))
    assert rungs.report(100, "a", AT, curve((0.49, 0.5)))
    assert not rungs.report(101, "a", AT, curve((0.51, 0.5)))


# its training collapsed; it made no mistake at the rung
@pytest.mark.parametrize("odd", [(0.4, 0.9), (0.0, 0.2)])
def test_one_odd_training_of_many_does_not_let_everybody_go_on(odd: tuple[float, float]) -> None:
    rungs = known(20)
    rungs.report(50, "a", AT, curve((odd[0], 0.9)), decided=True)
    rungs.ended(50, "a", curve((odd[1], 0.9)))
    assert not rungs.report(100, "a", AT, curve((0.6, 0.6)))


def test_a_training_of_a_family_that_nothing_is_known_of_goes_on() -> None:
    assert known().report(10, "b", AT, curve((0.9, 0.9)))
    assert known(KNOWN - 1).report(10, "a", AT, curve((0.9, 0.9)))


def test_a_falling_target_is_compared_at_what_it_will_cost() -> None:
    later = curve((0.9, 0.8))
    assert not known().report(10, "a", AT, later, 1.0)
    assert not known().report(10, "a", AT, later, 0.63)
    assert known().report(10, "a", AT, later, 0.62)


def test_only_the_region_counts() -> None:
    cheap = curve((0.8, 0.4))
    assert known().report(10, "a", AT, cheap)
    assert not known().report(10, "a", AT, cheap, corner=np.array([0.3, 1.0]))


def test_a_stopped_trial_is_promising_once_later_ones_have_gained_more() -> None:
    rungs = known()
    assert not rungs.report(10, "a", AT, curve((0.5, 0.5)))
    assert not rungs.report(11, "a", AT, curve((0.45, 0.5)))
    assert rungs.promising() is None
    for number in range(20, 26):
        rungs.report(number, "a", AT, curve((0.6, 0.6)), decided=True)
        rungs.ended(number, "a", curve((0.21, 0.6)))
    assert rungs.promising() == 10
    assert rungs.resume(10) == AT
    assert rungs.promising() == 11, "one that was resumed is no longer offered"
    rungs.ended(10, "a", curve((0.15, 0.5)))
    rungs.ended(12, "a", curve((0.01, 0.01)))
    assert rungs.promising() is None


def test_of_promising_trials_the_farthest_trained_goes_on_first() -> None:
    rungs = known()
    for number in range(KNOWN):
        rungs.report(number, "a", 2 * AT, curve((0.3, 0.5)), decided=True)
    assert not rungs.report(10, "a", AT, curve((0.5, 0.5)))
    assert not rungs.report(11, "a", 2 * AT, curve((0.35, 0.5)))
    for number in range(20, 26):
        rungs.report(number, "a", AT, curve((0.9, 0.6)), decided=True)
        rungs.report(number, "a", 2 * AT, curve((0.8, 0.6)), decided=True)
        rungs.ended(number, "a", curve((0.21, 0.6)))
    assert rungs.promising() == 11


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [
        (1, ()),
        (3, ()),
        (5, (2,)),
        (6, (2,)),
        (12, (4,)),
        (27, (3, 9)),
        (81, (3, 9, 27)),
        (200, (2, 7, 22, 67)),
    ],
)
def test_rungs_are_thirds_of_thirds_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert rung_epochs(epochs) == rungs


def test_points_beyond_the_box_keep_nobody_training() -> None:
    assert not known().report(10, "a", AT, curve((0.1, 1.5), (2.0, 0.1)))
    assert known().report(10, "a", AT, curve((0.1, 1.5), (0.99, 0.1)))
