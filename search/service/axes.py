"""What accuracy can be drawn against: the costs that every point has, and latency where an export measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan

from search.objectives import COSTS, Cost, macs_number, macs_text
from storage.records import ExportRecord, OperatingPoint, PointRecord

RUNTIMES = ("onnxruntime", "torch")  # the first that an export was measured in


@dataclass(frozen=True)
class Latency(Cost):
    """Milliseconds for one image, of points that were exported; others have none, and so cost without end."""

    known: Mapping[int, float] = field(default_factory=dict)

    def of(self, point: OperatingPoint) -> float:
        return self.known.get(getattr(point, "id", None) or 0, inf)


def latencies(exports: Sequence[ExportRecord]) -> dict[int, float]:
    """Median milliseconds at batch 1 by point, as its last export measured them."""
    found: dict[int, float] = {}
    for export in exports:
        measured = (export.report.get("latency_ms") or {}).get("batch_1") or {}
        runtime = next((name for name in RUNTIMES if name in measured), None)
        if export.point is not None and runtime is not None:
            found[export.point] = float(measured[runtime]["exported"]["median"])
    return found


def axes(known: Mapping[int, float]) -> dict[str, Cost]:
    """All axes by name; `known` are latencies by point."""
    latency = Latency(
        name="latency",
        column="latency_ms",
        label="latency of one image (median, ms), of exported points",
        unit="ms",
        measure="latency",
        of_baseline=lambda shape: nan,
        known=known,
    )
    return COSTS | ({latency.name: latency} if known else {})


def amount_number(cost: Cost, text: str) -> float:
    """The amount that is meant: "20M" MACs, "1.5" milliseconds. Raises ValueError."""
    if not isinstance(cost, Latency):
        return float(macs_number(text))
    try:
        found = float(text.lower().removesuffix("ms"))
    except ValueError:
        found = nan
    if not (isfinite(found) and found > 0):
        raise ValueError(f"{text[:40]!r} is not a number of milliseconds; write it like 1.5")
    return found


def amount_text(cost: Cost, amount: float) -> str:
    """The amount with its unit: "20.0 M MACs", "1.5 ms"."""
    number = f"{amount:.3g}" if isinstance(cost, Latency) else macs_text(amount)
    return f"{number} {cost.unit}"


def has(cost: Cost, point: PointRecord) -> bool:
    """Whether the point has this cost."""
    return isfinite(cost.of(point))
