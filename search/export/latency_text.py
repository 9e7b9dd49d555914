"""Milliseconds of an export in words."""

from __future__ import annotations

from collections.abc import Mapping


def average_ms(ms: Mapping[str, float]) -> float:
    """What a batch takes, mean over batches; exports of before it was kept have the median of all runs."""
    return ms.get("mean", ms["median"])


def latency_text(ms: Mapping[str, float]) -> str:
    """The mean over batches, and the middle half of all runs."""
    return f"{average_ms(ms):.3g} ms ({ms['low']:.3g} to {ms['high']:.3g})"
