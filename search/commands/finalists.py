"""What finalists show, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from search.objectives import COSTS, LATENCY
from search.report.front_table import NARROW, WIDE
from trainers.metrics import ACCURACY, METRICS


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print a report as a table and one line."""
    if not found["points"]:
        console.print(
            f"{found['study']}: no finalist is on the front; train some: dynafront search FILE --finalists 3"
        )
        return
    console.print(
        f"Finalists, trained again from other seeds for {found['times_the_epochs']} times the epochs; their "
        f"{_label(found)}:"
    )
    console.print(_table(found, console.width))
    console.print(bias_text(found), highlight=False, soft_wrap=True)
    if timed := timed_text(found):
        console.print(timed, highlight=False, soft_wrap=True)


def _amount(column: str, amount: float) -> str:
    """What stands in this column of operating points, as text."""
    return next(cost for cost in COSTS.values() if cost.column == column).write(amount)


def _table(found: Mapping[str, Any], width: int) -> Table:
    """A row a point. Numbers are never cut: a narrow terminal has no column of intervals."""
    narrow, names = width < NARROW, list(found["points"][0]["costs"])
    timed = any("measured_ms" in row for row in found["points"])
    table = Table(
        box=None, padding=(0, 2 if width >= WIDE else 1), pad_edge=width >= WIDE, header_style="dim"
    )
    for name in ("trial", *(f"{name} <=" for name in names), "in the\nsearch", "mean of\nseeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in (*(() if narrow else ("95 %\ninterval",)), "seeds", "dominated\nby"):
        table.add_column(name, no_wrap=True)
    if timed:
        table.add_column("measured ms\n(static)", no_wrap=True)
    for row in found["points"]:
        dominated = row["dominated_by"]
        interval = "-" if row["low"] is None else f"{row['low']:.1%} - {row['high']:.1%}"
        table.add_row(
            str(row["trial"]),
            *(_amount(name, row["costs"][name]) for name in names),
            f"{row['searched']:.2%}",
            "-" if row["mean"] is None else f"{row['mean']:.2%}",
            *(() if narrow else (interval,)),
            f"{len(row['accuracies'])} of {row['seeds']}",
            "" if dominated is None else f"trial {dominated}",
            *((_measured(row),) if timed else ()),
        )
    return table


def _measured(row: Mapping[str, Any]) -> str:
    """Milliseconds of the whole network, and of the static one beside it."""
    if "measured_ms" not in row:
        return "-"
    return f"{row['measured_ms']:.3g} ({row['static_ms']:.3g})"


def timed_text(found: Mapping[str, Any]) -> str | None:
    """How the latency of whole networks compares with the prediction, in one line; None where none was timed."""
    column = LATENCY.column
    ratios = [
        row["measured_ms"] / row["costs"][column]
        for row in found["points"]
        if "measured_ms" in row and column in row["costs"]
    ]
    if not ratios:
        return None
    return (
        f"latency: measured / predicted {median(ratios):.2f} (median), {min(ratios):.2f} to {max(ratios):.2f} "
        f"(n = {len(ratios)} whole networks, timed on this study's machine)"
    )


def _label(found: Mapping[str, Any]) -> str:
    return METRICS[found.get("metric", ACCURACY.name)].label


def bias_text(found: Mapping[str, Any]) -> str:
    """The selection bias of a report in one line, with what makes it too small."""
    bias, label = found["selection_bias"], _label(found)
    left = (
        f"; {bias['left_out']} left out, for which some seed has no answer so cheap"
        if bias["left_out"]
        else ""
    )
    if bias["mean"] is None:
        return f"selection bias: not known (n = 0 points{left})"
    return (
        f"selection bias: {label} in the search - mean of seeds = {100 * bias['mean']:+.2f} points of {label} "
        f"(n = {bias['points']} points of {bias['finalists']} finalists{left}). Too small: finalists had "
        f"{found['times_the_epochs']} times the epochs."
    )
