"""A latency table whose times are known by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from search.latency.table import LatencyTable
from spaces.contract.units import Unit


def table_of(
    units: Iterable[Unit], *, call: float = 1.0, branch: float = 1.25, **fields: Any
) -> LatencyTable:
    """A call takes 1 ms, and a unit as many more as it has thousands of MACs, at least 1."""
    times = {unit.key: (unit.words, call + max(1.0, unit.macs // 1000)) for unit in units}
    times |= {"call": ("call", call), "branch": ("branch", branch)}
    found = {k: {"unit": w, "median": ms, "low": ms, "high": ms} for k, (w, ms) in times.items()}
    setting: dict[str, Any] = {
        "machine": {"name": "phone"}, "runtime": "onnxruntime", "device": "cpu", "threads": 1,
        "batch": 1, "versions": {"onnxruntime": "1.20"},
    }  # fmt: skip
    return LatencyTable(**(setting | fields), units=found)
