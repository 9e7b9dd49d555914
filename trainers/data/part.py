"""A part of every batch, for processes that train one network together.

Shapes: B images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The part of this number, from 0, of so many equal parts."""

    number: int = 0
    count: int = 1

    def of(self, order_B: Tensor) -> Tensor:
        """This part of a batch; what does not divide evenly is in none."""
        each = len(order_B) // self.count
        return order_B[self.number * each : (self.number + 1) * each]


WHOLE = Part()
