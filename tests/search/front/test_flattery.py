"""Picks that keep their word: what choosing flatters, the point that equals the best static network, what to expect."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from search.front.comparison import at_least, better
from search.front.flattery import expected, flattery
from search.front.pick import pick
from storage.records import Kind, PointRecord
from tests.points import point
from trainers.answers import Answers
from trainers.metrics import ACCURACY, BALANCED, METRICS
from trainers.significance import lead_on_the_same

IMAGES = 1000


def known(right_N: np.ndarray, macs: float, bias: float | None = None, **more: Any) -> PointRecord:
    """A point with these answers, and what choosing its thresholds is said to flatter it."""
    extra = {} if bias is None else {"selection_bias": bias}
    packed = np.packbits(right_N).tobytes()
    return point(float(right_N.mean()), macs, right=packed, extra=extra, **more)


def answers(right: int, shifted: int = 0, images: int = IMAGES) -> np.ndarray:
    """So many right answers, to other images than those of `answers(right)` by this many."""
    return np.roll(np.arange(images) < right, shifted)


STATIC = known(answers(750), 60e6, kind=Kind.BASELINE, trial=9)


def test_flattery_is_the_mean_of_what_points_of_a_kind_keep_and_never_negative() -> None:
    right = answers(700)
    points = [known(right, 1, 0.03), known(right, 2, -0.01), known(right, 3), STATIC]
    points += [known(right, 4, -0.02, kind=Kind.CASCADE)]
    assert flattery(points) == {Kind.SEARCH: pytest.approx(0.01), Kind.CASCADE: 0.0}


def test_the_lead_is_that_of_the_published_example() -> None:
    """Tango, 1998: of 44 patients one prefers the second lens alone; the 95 % interval is (-0.118, 0.059)."""
    first, second = (np.packbits(answers(n, images=44)).tobytes() for n in (43, 44))
    assert lead_on_the_same(first, second, 44, -0.118) == pytest.approx(1.96, abs=0.01)
    assert lead_on_the_same(first, second, 44, 0.059) == pytest.approx(-1.96, abs=0.01)


@pytest.mark.parametrize("least", [-0.03, 0.0, 0.02])
def test_a_lead_that_is_just_the_least_is_called_sure_once_in_twenty(least: float) -> None:
    draws, called, share = np.random.default_rng(0), 0, 0.75
    for _ in range(2000):
        common = draws.random(400)
        ours = np.where(draws.random(400) < 0.8, common, draws.random(400)) < share + least
        theirs = common < share
        called += at_least(known(ours, 1), known(theirs, 2), least)
    assert 0.03 < called / 2000 < 0.07


def test_a_lead_in_balanced_accuracy_counts_classes_alike() -> None:
    labels = np.repeat([0, 1], [900, 100])
    top5 = np.zeros((1, 1000), np.bool_)

    def of(wrong_of_1: int) -> PointRecord:
        found = Answers(
            np.where(np.arange(1000) >= 1000 - wrong_of_1, 0, labels)[None], top5, labels
        )
        packed = BALANCED.packed(found)
        return point(0.9, 1, right=packed, extra={"metric": BALANCED.name})

    assert at_least(of(10), of(40), 0.10)  # 0.15 ahead, give or take 0.023
    assert not at_least(of(10), of(40), 0.13)
    assert at_least(of(40), of(10), -0.20)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_lead_that_falls_with_what_is_asked(name: str) -> None:
    draws = np.random.default_rng(1)
    labels = draws.integers(0, 7, 300)
    rows = [
        np.where(draws.random(300) < share, labels, draws.integers(0, 7, 300))
        for share in (0.8, 0.6)
    ]
    metric = METRICS[name]
    found = [Answers(row[None], (row == labels)[None], labels) for row in rows]
    values = [metric.measure(one).value for one in found]
    first, second = (metric.pack(one) for one in found)
    leads = [metric.lead(first, second, values[0], least) for least in (-0.1, 0.0, 0.1)]
    assert leads == sorted(leads, reverse=True)
    between = metric.lead(first, second, values[0], values[0] - values[1])
    assert between == pytest.approx(0, abs=0.5)


def test_equal_is_the_cheapest_that_is_surely_no_more_than_a_point_worse() -> None:
    as_good = known(answers(765, 5), 40e6, 0.0, trial=1)
    flattered = known(answers(752, 200), 20e6, 0.0, trial=2)  # as accurate, but on other images
    assert flattered.accuracy > STATIC.accuracy
    assert pick([flattered, as_good], "equal", baselines=[STATIC]).trial == 1


def test_what_thresholds_flatter_is_subtracted() -> None:
    as_good = known(answers(765, 5), 40e6, 0.03, trial=1)
    assert pick([as_good], "equal", baselines=[STATIC]) is STATIC


def test_equal_may_be_the_static_network_and_never_costs_more() -> None:
    better_one = known(answers(900), 90e6, trial=1)
    assert pick([better_one], "equal", baselines=[STATIC]) is STATIC


def test_equal_says_what_it_lacks() -> None:
    cheap = known(answers(600), 1e6)
    with pytest.raises(ValueError, match=r"^there is no static network to be equal to"):
        pick([cheap], "equal")
    with pytest.raises(ValueError, match=r"^no point within the limits .* 0\.750 at 60\.0 M MACs"):
        pick([cheap], "equal", baselines=[STATIC], max_macs=2e6)


def test_a_point_must_be_ahead_by_more_than_it_is_flattered_to_be_called_better() -> None:
    ahead = known(answers(780), 60e6)
    assert better(ahead, STATIC)
    assert better(ahead, STATIC, 0.01)
    assert not better(ahead, STATIC, 0.025)


def test_points_from_before_answers_were_kept_are_compared_by_their_intervals() -> None:
    old = point(0.80, 1, accuracy_low=0.79, accuracy_high=0.81)
    other = point(0.75, 2, accuracy_low=0.74, accuracy_high=0.76)
    assert at_least(old, other, 0.03)
    assert not at_least(old, other, 0.04)
    assert expected(old, [old], [other], partial(_best)) is None


def test_a_baseline_that_answers_nothing_rightly_is_a_point_as_others_are() -> None:
    nothing = known(answers(0, images=1001), 1e6, kind=Kind.BASELINE, trial=9)
    members = [known(answers(800, k, images=1001), 1e6 + k, trial=k) for k in range(3)]
    for rule in ("best", "equal", "efficient"):

        def again(some: Any, baselines: Any, rule: str = rule) -> PointRecord:
            return pick(some, rule, baselines=baselines)

        found = expected(members[0], members, [nothing], again)
        assert found is not None
        assert found.accuracy == pytest.approx(members[0].accuracy, abs=0.02)
    assert not at_least(nothing, members[0], -0.01)


def _best(members: Any, baselines: Any) -> PointRecord:
    return max(members, key=lambda p: p.accuracy)


def test_most_of_the_luck_of_the_luckiest_among_equals_is_not_expected_to_last() -> None:
    draws, hoped, left = np.random.default_rng(0), 0.0, 0.0
    for _ in range(4):
        points = [known(draws.random(400) < 0.7, 1.0 + i, 0.01) for i in range(40)]
        luckiest = _best(points, [])
        assert luckiest.accuracy > 0.73
        one = expected(luckiest, points, [], _best)
        assert one is not None
        assert one.thresholds == pytest.approx(0.01)
        assert one.accuracy == pytest.approx(luckiest.accuracy - one.thresholds - one.picking)
        hoped += luckiest.accuracy - 0.7
        left += one.accuracy + one.thresholds - 0.7
    assert 0 < left < 0.4 * hoped


def test_nothing_is_subtracted_for_a_pick_by_hand() -> None:
    one = known(answers(700), 1, 0.02)
    found = expected(one, [one], [], None)
    assert found is not None
    assert (found.accuracy, found.picking) == (pytest.approx(0.68), 0.0)


def test_what_is_expected_goes_by_the_metric() -> None:
    draws = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [200, 60, 40])
    points = []
    for i in range(8):
        row = np.where(draws.random(300) < 0.7, labels, (labels + 1) % 3)
        own = Answers(row[None], np.zeros((1, 300), np.bool_), labels)
        value = BALANCED.measure(own).value
        points.append(
            point(value, i + 1, right=BALANCED.packed(own), extra={"metric": BALANCED.name})
        )
    one = expected(_best(points, []), points, [], _best)
    assert one is not None
    assert one.picking > 0.01
    assert ACCURACY.name not in {p.metric for p in points}
