"""Whether measured pairs bear a claim out: an interval of the mean difference, and where it lies.

Over several seeds the interval is Student's t of the paired differences; for one seed it is that of two shares of the
same number of images, from Wilson's intervals (Newcombe, "Interval Estimation for the Difference between Independent
Proportions", Statistics in Medicine, 1998; taken as independent, which is wider than need be for the same images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev

from scipy.stats import t as student

from trainers.significance import wilson

RULES = ("above", "below", "close", "no_worse", "zero")
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
LEVEL = 0.95

Pair = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """A word, and what it rests on: means of ours and of the other, their difference and its 95 % interval."""

    word: str
    seeds: int
    ours: float = 0.0
    other: float = 0.0
    low: float = -inf
    high: float = inf

    @property
    def difference(self) -> float:
        return self.ours - self.other


def verdict(
    pairs: Sequence[Pair],
    rule: str,
    *,
    margin: float = 0.0,
    images: int | None = None,
    level: float = LEVEL,
) -> Verdict:
    """The verdict on (ours, other) of each seed.

    above, below: the difference is on that side of 0. close: within the margin on both sides. no_worse: above minus the
    margin. zero: ours is exactly 0 and the other is not, at every seed; no interval. `images` is the number behind
    shares, None where the values are not shares of images; `level` is the interval's, over several seeds. Raises
    ValueError for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule: {rule} is not one of {', '.join(RULES)}")
    if not pairs:
        return Verdict(UNDECIDED, 0)
    ours, other = (mean(pair[side] for pair in pairs) for side in (0, 1))
    if rule == "zero":
        exact = all(a == 0 and b != 0 for a, b in pairs)
        return Verdict(
            HOLDS if exact else FAILS, len(pairs), ours, other, ours - other, ours - other
        )
    low, high = interval(pairs, images, level)
    return Verdict(_word(rule, low, high, margin), len(pairs), ours, other, low, high)


def interval(pairs: Sequence[Pair], images: int | None = None, level: float = LEVEL) -> Pair:
    """Interval of the mean of ours minus other; unbounded where the pairs say nothing about it."""
    if len(pairs) > 1:
        return paired(pairs, images, level)
    return newcombe(*pairs[0], images) if images else (-inf, inf)


def paired(pairs: Sequence[Pair], images: int | None = None, level: float = LEVEL) -> Pair:
    """Student's t interval of the mean difference."""
    differences = [ours - other for ours, other in pairs]
    count = len(differences)
    reach = float(student.ppf((1 + level) / 2, count - 1)) * spread_of(pairs, images) / sqrt(count)
    return mean(differences) - reach, mean(differences) + reach


def spread_of(pairs: Sequence[Pair], images: int | None = None) -> float:
    """Standard deviation of the differences; seeds that agree by chance to the image count as one image apart."""
    return max(stdev(ours - other for ours, other in pairs), 1 / images if images else 0.0)


def newcombe(ours: float, other: float, images: int) -> Pair:
    """95 % interval of the difference of two shares, each of `images` images."""
    (a_low, a_high), (b_low, b_high) = wilson(ours, images), wilson(other, images)
    down = sqrt((ours - a_low) ** 2 + (b_high - other) ** 2)
    up = sqrt((a_high - ours) ** 2 + (other - b_low) ** 2)
    return ours - other - down, ours - other + up


def _word(rule: str, low: float, high: float, margin: float) -> str:
    good, bad = {
        "above": (low > 0, high < 0),
        "below": (high < 0, low > 0),
        "close": (-margin < low and high < margin, low > margin or high < -margin),
        "no_worse": (low > -margin, high < -margin),
    }[rule]
    return HOLDS if good else FAILS if bad else UNDECIDED
