"""The limits that an exported point was picked within, beside what it took at export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.objectives import COSTS, LATENCY
from trainers.metrics import ACCURACY, METRICS

LIMITS = "limits"  # of a report's `validation`: by column of a point the limit that was asked for
LEAST = "accuracy"


def limit_texts(report: Mapping[str, Any]) -> Iterator[str]:
    """Of each limit what was asked for, what was measured, and whether that keeps it."""
    limits = report["validation"].get(LIMITS, {})
    for cost in COSTS.values():
        if (most := limits.get(cost.column)) is None:
            continue
        asked = f"at most {cost.text(most)} asked for"
        own = _cost(report, cost.column)
        if own is None:
            yield f"{asked}: not measured here"
        elif own <= most:
            yield f"{asked}: {cost.text(own)} measured"
        else:
            yield f"{asked}: {cost.text(own)} measured, {own / most - 1:.1%} over it"
    if (least := limits.get(LEAST)) is not None:
        label = METRICS[report.get("metric", ACCURACY.name)].label
        own = report["test"]["accuracy"]
        short = "" if own >= least else ", short of it"
        yield f"{label} of at least {least:.2%} on validation asked for: {own:.2%} on test{short}"


def limit_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of the card."""
    yield from (("limit", text) for text in limit_texts(report))


def _cost(report: Mapping[str, Any], column: str) -> float | None:
    """What the exported network took on this machine; None where that was not measured."""
    if column == LATENCY.column:
        return (report.get("predicted") or {}).get("measured_ms")
    return report["test"].get(column)
