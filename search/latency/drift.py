"""Whether a machine is as fast as when its latency table was made: told by a static network that was timed anew."""

from __future__ import annotations

from math import isfinite

from search.objectives import LATENCY

MOST = 1.25  # times; a table is within 13 % of nine networks in ten


def drift_text(measured_ms: float, predicted_ms: float | None) -> str | None:
    """What to know where a static network takes another time than the table says; None where it takes about that.

    Of static networks the table has whole ones, so that little but the machine's speed can differ.
    """
    if not predicted_ms or not isfinite(predicted_ms):
        return None
    ratio = measured_ms / predicted_ms
    if 1 / MOST <= ratio <= MOST:
        return None
    now = f"{ratio:.2f} times as slow" if ratio > 1 else f"{1 / ratio:.2f} times as fast"
    return (
        f"the static network beside it takes {LATENCY.text(measured_ms)} where the latency table says "
        f"{LATENCY.text(predicted_ms)}: this machine is {now} now as when it was profiled, so take other "
        "predicted latencies for as far off"
    )
