"""How much is spent on measuring one trained network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Passes over validation of what is drawn at random, what refreshes batch-norm statistics, how exits are searched.

    `recalibration_images` are those of a batch; None: as many as in training. `thresholds` of exits are searched on a
    "grid" or by the "genetic" search of SCAN.
    """

    passes: int = 3
    recalibration_batches: int = 20
    recalibration_images: int | None = None
    thresholds: str = "grid"
