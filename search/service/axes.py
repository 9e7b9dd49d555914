"""What accuracy can be drawn against: the costs that every point has, and latency where it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import Any

from search.export.latency_text import average_ms
from search.objectives import LATENCY, Cost, costs_of
from storage.records import TIMED, ExportRecord, OperatingPoint, PointRecord
from storage.store import Store

RUNTIMES = ("onnxruntime", "torch")  # the first that an export was measured in


@dataclass(frozen=True)
class Exported(Cost):
    """Milliseconds for one image, of points that were timed or exported; others have none, and so cost without end."""

    known: Mapping[int, float] = field(default_factory=dict)

    def of(self, point: OperatingPoint) -> float:
        return self.known.get(getattr(point, "id", None) or 0, inf)


def latencies(store: Store, study: str) -> dict[int, float]:
    """Measured milliseconds of an image by point: of finalists as they were timed, else as its last export found."""
    timed = {point: one[TIMED] for point, one in store.timings(study).items()}
    return _exported(store.exports(study)) | timed


def _exported(exports: Sequence[ExportRecord]) -> dict[int, float]:
    """Milliseconds of an average image, at batch 1."""
    found: dict[int, float] = {}
    for export in exports:
        measured = (export.report.get("latency_ms") or {}).get("batch_1") or {}
        runtime = next((name for name in RUNTIMES if name in measured), None)
        if export.point is not None and runtime is not None:
            found[export.point] = average_ms(measured[runtime]["exported"])
    return found


def axes(known: Mapping[int, float], keys: Mapping[str, Any]) -> dict[str, Cost]:
    """All axes by name; `known` are measured latencies by point, `keys` those of the study's file.

    Where the study has a table of times, its latency is that of the table, and what was measured is another axis.
    """
    found = costs_of(keys)
    measured = Exported(
        name="measured" if LATENCY.name in found else LATENCY.name,
        column="latency_ms",
        label="latency of one image (measured, ms), of timed and exported points",
        unit=LATENCY.unit,
        measure="measured",
        of_baseline=lambda shape: nan,
        read=LATENCY.read,
        write=LATENCY.write,
        known=known,
    )
    return found | ({measured.name: measured} if known else {})


def has(cost: Cost, point: PointRecord) -> bool:
    """Whether the point has this cost."""
    return isfinite(cost.of(point))
