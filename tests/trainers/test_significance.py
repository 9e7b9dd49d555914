"""Tests of accuracies against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from trainers.significance import (
    Share,
    better_on_the_same,
    difference_of,
    mcnemar,
    paired_difference,
    wilson,
)


def bits(right: list[int]) -> bytes:
    return np.packbits(right).tobytes()


def test_wilson_agrees_with_numbers_worked_out_by_hand() -> None:
    low, high = wilson(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson(0.0, 10)[0] == pytest.approx(0.0)


def test_mcnemar_is_twice_the_tail_of_a_fair_coin() -> None:
    assert mcnemar(6, 0) == pytest.approx(2 / 2**6)
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 3), (40, 61), (900, 1100), (4000, 4300)])
def test_mcnemar_is_scipys_test_of_a_fair_coin(first: int, second: int) -> None:
    assert mcnemar(first, second) == pytest.approx(binomtest(first, first + second).pvalue)


def test_six_images_that_only_one_answers_make_a_difference_and_five_do_not() -> None:
    worse = bits([0] * 6 + [1] * 14)
    assert better_on_the_same(bits([1] * 20), worse)
    assert not better_on_the_same(worse, bits([1] * 20))
    assert not better_on_the_same(bits([1] * 20), bits([0] * 5 + [1] * 15))
    assert not better_on_the_same(worse, worse)


def test_images_that_only_the_other_answers_count_against_it() -> None:
    ours = bits([1] * 9 + [0] * 3 + [1] * 8)
    theirs = bits([0] * 9 + [1] * 3 + [1] * 8)
    assert mcnemar(9, 3) == pytest.approx(0.146, abs=1e-3)
    assert not better_on_the_same(ours, theirs)


def test_the_difference_of_shares_of_different_images_is_newcombes() -> None:
    """56 of 70 and 48 of 80: the example of the paper, whose interval is 0.0524 to 0.3339."""
    first, second = (Share(n / of, *wilson(n / of, of)) for n, of in ((56, 70), (48, 80)))
    assert difference_of(first, second).low == pytest.approx(0.0524, abs=5e-5)
    assert difference_of(first, second).high == pytest.approx(0.3339, abs=5e-5)


def test_a_difference_on_the_same_images_is_narrower_than_on_others() -> None:
    right = np.arange(400) < 340
    other = right.copy()
    other[:6] = False
    other[390:392] = True  # 6 lost, 2 won
    found = paired_difference(other, right)
    assert found.value == pytest.approx(-0.01)
    assert found.low < -0.01 < found.high
    apart = difference_of(Share(0.84, *wilson(0.84, 400)), Share(0.85, *wilson(0.85, 400)))
    assert found.high - found.low < 0.4 * (apart.high - apart.low)
    swapped = paired_difference(right, other)
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_the_interval_of_a_paired_difference_holds_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        first = draw.random(200) < 0.9
        second = np.where(draw.random(200) < 0.08, ~first, first)  # 0.9 - 0.08 * 0.8 on average
        found = paired_difference(first, second)
        held += found.low <= 0.064 <= found.high
    assert 0.92 < held / 400 < 0.99
