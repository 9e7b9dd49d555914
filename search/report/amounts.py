"""Shares and MACs as people read them."""

from __future__ import annotations

from search.objectives import macs_text


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: "95.0 %"."""
    return f"{100 * share:.{digits}f} %"


def macs(value: float) -> str:
    """A number of MACs with its unit: "464 k MACs"."""
    return f"{macs_text(value)} MACs"


def file_size(count: float) -> str:
    """Bytes on a disk: "14 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return (
                f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:,.1f} TB"


def time_text(seconds: float) -> str:
    """A time with two digits or so: "40 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
