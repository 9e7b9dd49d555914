"""A front as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from search.front.metric import metric_of
from search.objectives import LATENCY, macs_text
from search.report.front_points import thinned
from search.report.text import knobs_text, network_text
from storage.records import TIMED, PointRecord

WIDE = 130  # characters of a terminal from which on knobs have a column of their own
HALF = 100  # below which there is no column of 95th percentiles
NARROW = 72  # below which there is no column of intervals
NUMBERS = ("point", "trial", "accuracy", "95 % interval", "MACs mean", "p95")
MIDDLE = ("point", "trial", "accuracy", "95 % interval", "MACs mean")
FEWER = ("point", "trial", "accuracy", "MACs mean")


def terminal_table(front: Sequence[PointRecord], width: int, rows: int | None = None) -> Table:
    """The front as a table for a terminal of so many characters; with `rows`, evenly thinned to that many.

    Numbers are never cut. What the network is comes last, and is folded where it does not fit.
    """
    shown = front if rows is None else thinned(front, rows)
    table = Table(
        box=None, padding=(0, 2 if width >= WIDE else 1), pad_edge=width >= WIDE, header_style="dim"
    )
    numbers = (*_columns(width), *latency_columns(front))
    # a long name in two lines, so that its column stays narrow
    heads = {"accuracy": metric_of(front).label.replace(" ", "\n")}
    for name in numbers:
        table.add_column(
            heads.get(name, name),
            justify="left" if name == "95 % interval" else "right",
            no_wrap=True,
        )
    words = ("knobs", "network") if width >= WIDE else ("network, knobs",)
    for name in words:
        table.add_column(name, overflow="fold")
    for point in shown:
        cells = _numbers(point)
        texts = [network_text(point.family, point.params), knobs_text(point.knobs)]
        texts = texts[::-1] if width >= WIDE else [", ".join(texts)]
        table.add_row(*(cells[name] for name in numbers), *map(Text, texts))
    return table


def latency_columns(front: Sequence[PointRecord]) -> tuple[str, ...]:
    """Columns of times: none without a table of times, that of what was measured where any point was timed."""
    if not any(point.latencies for point in front):
        return ()
    return ("latency", "measured") if any(TIMED in point.extra for point in front) else ("latency",)


def latency_cells(point: PointRecord) -> dict[str, str]:
    """What stands in these columns."""
    times = {"latency": point.extra.get(LATENCY.column), "measured": point.extra.get(TIMED)}
    return {name: "-" if ms is None else LATENCY.text(ms) for name, ms in times.items()}


def _columns(width: int) -> tuple[str, ...]:
    if width >= HALF:
        return NUMBERS
    return MIDDLE if width >= NARROW else FEWER


def _numbers(point: PointRecord) -> dict[str, str]:
    return {
        "point": "" if point.id is None else str(point.id),
        "trial": point.name,
        "accuracy": f"{point.accuracy:.2%}",
        "95 % interval": f"{point.accuracy_low:.1%} - {point.accuracy_high:.1%}",
        "MACs mean": macs_text(point.macs_mean),
        "p95": macs_text(point.macs_p95),
    } | latency_cells(point)
