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
