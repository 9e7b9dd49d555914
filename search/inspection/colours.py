"""Colour scales of pages: a few known stops, what lies between is interpolated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# of matplotlib; the last one for differences
CIVIDIS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
PLASMA = ("#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921")
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
RED_BLUE = ("#b2182b", "#f4a582", "#f7f7f7", "#92c5de", "#2166ac")


def gradient(colours: Sequence[str]) -> str:
    return f"linear-gradient(90deg,{','.join(colours)})"


def colours(scale: Sequence[str], count: int) -> list[str]:
    return [colour_at(scale, 0.1 + 0.85 * i / max(1, count - 1)) for i in range(count)]


def colour_at(scale: Sequence[str], share: float) -> str:
    """The colour at a share of the scale."""
    return "#" + "".join(f"{round(float(v)):02x}" for v in rgb(scale, np.array(share)))


def rgb(scale: Sequence[str], shares: np.ndarray) -> np.ndarray:
    """(..., 3) colours of shares (...)."""
    known = np.array(
        [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in scale], dtype=float
    )
    stops = np.linspace(0, 1, len(scale))
    return np.stack([np.interp(shares, stops, known[:, channel]) for channel in range(3)], -1)
