"""What a claim is: networks to train under one seed, and the pair of numbers that it compares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair
from spaces.contract.family import Candidate
from spaces.contract.registry import family

Result = Mapping[str, Any]  # what one run measured
Results = Mapping[str, Result]  # of one seed, by role


@dataclass(frozen=True)
class Variant:
    """A network to train and what to measure of it; a seed makes it a run.

    With `start`, training goes on from that variant's weights of the same seed. `copies` are trained apart, from the
    same initial weights with different seeds, and measured together.
    """

    measure: str
    family: str
    params: Mapping[str, Any]
    epochs: int
    start: Variant | None = None
    copies: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)  # of the measurement

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(family(self.family), self.params, self.epochs)

    @property
    def key(self) -> str:
        """Equal for variants that train and measure the same."""
        start = self.start.key if self.start else None
        return json.dumps(
            [self.measure, self.options, self.candidate.key, self.copies, start], sort_keys=True
        )

    @property
    def weights_key(self) -> str:
        """Equal for variants that train the same."""
        start = self.start.weights_key if self.start else None
        return json.dumps([self.candidate.key, start], sort_keys=True)

    @property
    def label(self) -> str:
        """For progress: the family and what was set."""
        size = self.candidate.family.size_dimensions
        told = [
            f"{k} {v}"
            for k, v in self.params.items()
            if k not in (*size, "batch", "lr", "adamw_lr")
        ]
        copies = f" x{self.copies}" if self.copies > 1 else ""
        return f"{self.family}{copies} ({', '.join(told)})"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A directional claim of a paper.

    `variants` are what to train, by role. `pair` gives, from the results of one seed, the two numbers that are
    compared, or None where that seed cannot tell. `rule` and `margin` are those of verdicts.verdict. `share`: whether
    the numbers are shares of the validation images. `matters` is the least difference from 0 that is worth knowing of,
    which seeds are counted for; a rule with a margin has that. `note` adds to the report what a reader must know beside
    the pair.
    """

    paper: str
    name: str
    statement: str
    variants: Callable[[Scale], Mapping[str, Variant]]
    pair: Callable[[Results], Pair | None]
    rule: str = "above"
    margin: float = 0.0
    share: bool = True
    matters: float = 0.01
    note: Callable[[Sequence[Results]], str] | None = None

    @property
    def least(self) -> float:
        """The difference that the number of seeds is made for."""
        return self.margin or self.matters

    @property
    def sides(self) -> int:
        """Of an interval that have to lie within the margin."""
        return 2 if self.rule == "close" else 1


def average(values: Iterable[float]) -> float:
    """Mean, of seeds for instance."""
    listed = list(values)
    return sum(listed) / len(listed)


def between(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The value at x on the line between the nearest points (x, value) on both sides; None outside of them."""
    below = [point for point in points if point[0] <= x]
    above = [point for point in points if point[0] >= x]
    if not below or not above:
        return None
    (low, a), (high, b) = max(below), min(above)
    return float(a if low == high else a + (b - a) * (x - low) / (high - low))
