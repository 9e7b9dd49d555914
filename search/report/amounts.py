"""Shares and MACs as people read them."""

from __future__ import annotations

from search.objectives import macs_text


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: "95.0 %"."""
    return f"{100 * share:.{digits}f} %"


def macs(value: float) -> str:
    """A number of MACs with its unit: "464 k MACs"."""
    return f"{macs_text(value)} MACs"
