"""What was measured on the test images, summed up batch by batch.

Shapes: B images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.evaluate import Table
from trainers.significance import wilson


@dataclass
class Counts:
    """Right answers and MACs of the test images so far."""

    correct: list[Tensor] = field(default_factory=list)  # (B,) of each batch
    macs: list[Tensor] = field(default_factory=list)

    def add(self, correct_B: Tensor, macs_B: Tensor) -> None:
        self.correct.append(correct_B)
        self.macs.append(macs_B)

    @property
    def packed(self) -> bytes | None:
        """Which images are answered rightly, eight a byte."""
        return self._table.packed

    def accuracy_and_cost(self) -> dict[str, Any]:
        table = self._table
        images = table.correct_PN.shape[1]
        low, high = wilson(table.accuracy, images)
        return {
            "images": images,
            "accuracy": table.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "macs_mean": table.macs_mean,
            "macs_p95": table.macs_p95,
            "macs_max": table.macs_max,
        }

    @property
    def _table(self) -> Table:
        return Table(torch.cat(self.correct)[None], torch.cat(self.macs)[None], {})
