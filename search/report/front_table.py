"""A front as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from search.objectives import macs_text
from search.report.text import knobs_text, network_text
from storage.records import PointRecord


def front_table(front: Sequence[PointRecord], rows: int | None = None) -> Table:
    """The front as a terminal table; with `rows`, evenly thinned to that many."""
    shown = list(front)
    if rows is not None and len(shown) > rows:
        shown = [front[round(i * (len(front) - 1) / (rows - 1))] for i in range(rows)]
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name, justify in (("trial", "right"), ("accuracy", "right"), ("95 % interval", "left"), ("MACs mean", "right"),
                          ("p95", "right"), ("knobs", "left"), ("network", "left")):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=name != "network")  # type: ignore[arg-type]
    for p in shown:
        table.add_row(
            p.name,
            f"{p.accuracy:.2%}",
            f"{p.accuracy_low:.1%} - {p.accuracy_high:.1%}",
            macs_text(p.macs_mean),
            macs_text(p.macs_p95),
            Text(knobs_text(p.knobs)),
            Text(network_text(p.family, p.params)),
        )
    return table
