"""Operating points and trainings as plain values, for the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from search.objectives import LATENCY, LATENCY_P95
from search.report.front_points import NUMBERS
from search.report.text import knobs_text, network_text
from storage.records import PointRecord, training_text

TIMES = (LATENCY.column, LATENCY_P95.column)  # of a study with a table of times
BARE = ("accuracy", "macs_mean", "macs_p95", "parameters")


def drawn(p: PointRecord, latencies: Mapping[int, float]) -> dict[str, Any]:
    """A point with all that is said of it; `latencies` are milliseconds by point, of those that were exported."""
    shown = {key: value if isfinite(value := getattr(p, key)) else None for key in NUMBERS}
    return shown | {
        "id": p.id,
        "name": training_text(*p.training),
        "kind": p.kind,
        "trial": p.trial,
        "parameters": p.parameters,
        "latency_ms": latencies.get(p.id or 0),
        **{key: p.extra.get(key) for key in TIMES},
        "network": network_text(p.family, p.params),
        "knobs": knobs_text(p.knobs),
    }


def columns(points: Sequence[PointRecord]) -> dict[str, list[Any]]:
    """Many points with little said of each, a list for each value: a row each would be ten times as long."""
    found: dict[str, list[Any]] = {key: [getattr(p, key) for p in points] for key in BARE}
    if any(TIMES[0] in p.extra for p in points):
        found |= {key: [p.extra.get(key) for p in points] for key in TIMES}
    return found | {
        "id": [p.id for p in points],
        "name": [training_text(*p.training) for p in points],
    }
