"""What a point's exits answer, in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from search.service.point_words import point_words, shares_by_exit
from tests.points import point

EARLY = [{"name": "exit 1", "share": 0.4}, {"name": "exit 2", "share": 0.3}]
DEEPEST, ENSEMBLE = {"name": "deepest", "share": 0.2}, {"name": "ensemble", "share": 0.1}


@pytest.mark.parametrize(
    ("exits", "shares", "end"),
    [
        ([*EARLY, {**DEEPEST, "share": 0.3}], [0.4, 0.3, 0.3], "30 % at the end"),
        (
            [*EARLY, {**DEEPEST, "share": 0.0}, {**ENSEMBLE, "share": 0.3}],
            [0.4, 0.3, 0.3],
            "30 % at the end",
        ),
        (
            [*EARLY, DEEPEST, ENSEMBLE],
            [0.4, 0.3, 0.2, 0.1],
            "20 % by the deepest head, 10 % by the mean of all heads",
        ),
        ([{"share": 0.4}, {"share": 0.3}, {"share": 0.3}], [0.4, 0.3, 0.3], "30 % at the end"),
    ],
    ids=["deepest", "ensemble", "both", "stored without names"],
)
def test_words_say_who_answers_how_many_images(
    exits: list[dict[str, Any]], shares: list[float], end: str
) -> None:
    one = point(
        0.9, 1e6, knobs={"policy": "always_on", "exit_rule": "maxprob"}, extra={"exits": exits}
    )
    assert list(shares_by_exit(one).values()) == shares
    assert f"It answers 40 %, 30 % of the images at its early exits, {end}." in point_words(
        one, None
    )
