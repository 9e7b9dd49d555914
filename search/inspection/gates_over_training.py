"""The page's section on how gates opened and closed while the network was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from search.inspection.colours import CIVIDIS
from search.inspection.markup import Section, ramp, share_cell
from search.inspection.picture import Headline
from search.report.amounts import percent

Epochs = Sequence[tuple[int, Mapping[str, float]]]  # open rates of gates by epoch
HEADLINE = Headline(
    "How gates opened and closed over the training",
    "share of validation images for which each gate is open after each epoch",
)


def gates_over_training(epochs: Epochs) -> Section:
    """A row a gate that there was after the last epoch, a column an epoch."""
    last = epochs[-1][1]
    rows = "".join(_row(name, epochs, last[name]) for name in last)
    head = "".join(f'<td class=c style="color:var(--soft)">{epoch}</td>' for epoch, _ in epochs)
    table = f"<table><tr><th>epoch</th>{head}<td class=n>at last</td></tr>{rows}</table>"
    content = f"<div>{table}<p>{ramp(CIVIDIS, 'closed', 'open for all')}</p></div>"
    return Section("gate_rates", "gates over the training", HEADLINE, content)


def _row(name: str, epochs: Epochs, last: float) -> str:
    cells = ""
    for epoch, rates in epochs:
        rate = rates.get(name, 0.0)
        cells += share_cell(
            rate, f"{name} after epoch {epoch}: open for {percent(rate)}", written=False
        )
    return f"<tr><th>{escape(name)}</th>{cells}<td class=n>{percent(last, 0)}</td></tr>"
