"""What a network answers, image by image: all that a metric of accuracy is computed from.

Shapes: P passes (1 unless stochastic), N images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOP = 5  # likeliest classes of a top-5 answer


@dataclass(frozen=True)
class Answers:
    """The class that is answered and whether the label is among the five likeliest, both (P, N); the labels (N,)."""

    classes_PN: Ints
    top5_PN: Bools
    labels_N: Ints

    @property
    def right_PN(self) -> Bools:
        """Whether the answer is the label."""
        right: Bools = self.classes_PN == self.labels_N
        return right

    @property
    def top5(self) -> float | None:
        """The share of images whose label is among the five likeliest; None with five classes or fewer."""
        return float(self.top5_PN.mean()) if self.labels_N.max(initial=0) >= TOP else None

    def passes(self) -> Iterator[Answers]:
        """The answers of each pass alone."""
        for classes_N, top5_N in zip(self.classes_PN, self.top5_PN, strict=True):
            yield Answers(classes_N[None], top5_N[None], self.labels_N)
