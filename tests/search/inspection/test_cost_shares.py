"""Which share of the images takes how much."""

from __future__ import annotations

import pytest

from search.inspection import cost_shares, mistakes
from tests.search.inspection.nets import found_of
from trainers.data.splits import ImageData


@pytest.mark.parametrize("case", ["joint", "exits"])
def test_shares_account_for_every_image_and_every_right_answer(case: str, data: ImageData) -> None:
    found = found_of(case, data)
    part = found.part(cost_shares.PICTURE)
    assert part is not None
    assert 2 <= len(part.shares) <= cost_shares.MOST
    assert sum(one.share for one in part.shares) == pytest.approx(1)
    right = sum(one.share * one.accuracy for one in part.shares)
    assert right == pytest.approx(found.accuracy)
    ends = [end for one in part.shares for end in (one.low, one.high)]
    assert ends == sorted(ends)
    assert part.half <= part.tenth <= ends[-1]


def test_mistakes_are_wrong_answers_and_their_share_is_what_is_not_right(data: ImageData) -> None:
    found = found_of("joint", data)
    part = found.part(mistakes.PICTURE)
    assert part is not None
    assert part.share == pytest.approx(1 - found.accuracy)
    assert part.wrong
    assert not any(shot.right for shot in part.wrong)
    taken = [shot.macs for shot in part.wrong]
    assert taken == sorted(taken, reverse=True)
