"""What an epoch of a training showed: plain values, for programs that must not load PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """One epoch: its number from 1, measures by name, open rate of every gate (of its units, on validation).

    `before`: the epochs before it, where a training continues and they may have been lost with their reader.
    """

    epoch: int
    metrics: dict[str, float]
    gate_rates: dict[str, float]
    before: Sequence[EpochResult] = ()
