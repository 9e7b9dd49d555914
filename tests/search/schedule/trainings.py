"""Trainings whose curves are known, to replay for rules of early stopping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from search.front.curves import Curve
from search.schedule.early_stopping import StoppingRule

AT = 2  # the epoch of the rung


def curve(*points: tuple[float, ...]) -> Curve:
    return np.array(points, dtype=float).reshape(len(points), -1)


def corner(of: Curve) -> Curve:
    """The worst corner that counts, with as many objectives as the curve."""
    return np.ones(of.shape[1])


@dataclass(frozen=True)
class Training:
    family: str
    curve: Curve


@st.composite
def trainings(draw: st.DrawFn, families: tuple[str, ...] = ("a", "b")) -> list[Training]:
    """In an order of their own; losses are multiples of a fourth, so that ties are common."""
    size = draw(st.integers(1, 3))
    points = st.lists(st.tuples(*[st.integers(0, 5)] * size), min_size=1, max_size=3)
    found = draw(st.lists(st.tuples(st.sampled_from(families), points), min_size=1, max_size=12))
    return [Training(family, curve(*rows) / 4) for family, rows in found]


def replay(rule: StoppingRule, found: list[Training], start: int = 0) -> dict[int, bool]:
    """Each training to its rung and, if it goes on, to its end; in a noiseless world nothing changes in between."""
    answers = {}
    for number, one in list(enumerate(found))[start:]:
        answers[number] = rule.report(
            number, one.family, AT, one.curve, 1.0, corner(one.curve), None
        )
        if answers[number]:
            rule.ended(number, one.family, one.curve)
    return answers
