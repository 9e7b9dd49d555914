"""How many seeds a claim needs before it can be decided.

The spread of the paired differences over pilot seeds, and of later seeds too, says how many are needed; their mean has
no say (Wittes and Brittain, "The Role of Internal Pilot Studies in Increasing the Efficiency of Clinical Trials",
Statistics in Medicine, 1990). A claim that is plain before that, by a 99.9 % interval, ends there (Haybittle,
"Repeated Assessment of Results in Clinical Trials of Cancer Treatment", British Journal of Radiology, 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from scipy.stats import nct
from scipy.stats import t as student

from benchmarks.claims.verdicts import LEVEL, UNDECIDED, Pair, verdict

EARLY = 0.999  # level of the interval that decides before all seeds are there


def power_of(spread: float, difference: float, seeds: int, *, sides: int = 1) -> float:
    """The chance that the 95 % interval over so many seeds tells `difference` from 0; 0 for one seed.

    `spread` is the standard deviation of the paired differences. With `sides` 2 the interval has to lie within
    `difference` on both sides of 0, where the true one is 0.
    """
    if seeds < 2:
        return 0.0
    if spread == 0:
        return 1.0
    freedom = seeds - 1
    reach = student.ppf((1 + LEVEL) / 2, freedom)
    one_side = 1 - float(nct.cdf(reach, freedom, difference * sqrt(seeds) / spread))
    return one_side if sides == 1 else max(0.0, 2 * one_side - 1)


def seeds_needed(
    spread: float, difference: float, power: float, most: int, *, sides: int = 1
) -> int:
    """The fewest seeds of this power, `most` where none has it."""
    counts = range(2, most)
    return next((n for n in counts if power_of(spread, difference, n, sides=sides) >= power), most)


def plain_already(
    pairs: Sequence[Pair], rule: str, *, margin: float = 0.0, images: int | None = None
) -> bool:
    """Whether the claim can be decided before all seeds are there."""
    return verdict(pairs, rule, margin=margin, images=images, level=EARLY).word != UNDECIDED
