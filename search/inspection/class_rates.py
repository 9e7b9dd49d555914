"""How often gates are open for the images of each class.

Shapes: N images, G columns of gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch

from search.inspection.by_class import class_rows
from search.inspection.colours import CIVIDIS
from search.inspection.figure import colour_bar, heat_map, panel, short
from search.inspection.markup import ramp, share_cell, tilted_head
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.amounts import percent
from search.report.canvas import FRONT, INK, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ClassRates:
    """Mean open rate of gates (columns, by depth) over the images of a class (rows, in `classes`)."""

    classes: list[str]
    gates: list[str]
    rates: list[list[float]]
    left_out: int  # classes


def measure(subject: Subject) -> ClassRates | None:
    """None where there are no gates."""
    seen = subject.seen
    if not seen.gates:
        return None
    open_NG = torch.stack(list(seen.gates.values()), 1)
    table = class_rows(
        seen.label_N,
        subject.data.classes,
        row=lambda of_class_N: open_NG[of_class_N].mean(0),
        rank=lambda rates_KG: rates_KG.mean(1),
    )
    return ClassRates(table.classes, list(seen.gates), table.rows, table.left_out)


def headline(rates: ClassRates, images: int) -> Headline:
    means = [float(np.mean(row)) for row in rates.rates]
    low, high = int(np.argmin(means)), int(np.argmax(means))
    title = "Every class opens the gates alike"
    if means[high] - means[low] >= 0.01:
        title = (
            f"Class {rates.classes[high]} opens {percent(means[high], 0)} of the gates, "
            f"class {rates.classes[low]} {percent(means[low], 0)}"
        )
    about = "share of a class's images for which a gate is open"
    if any(name.endswith("filters") for name in rates.gates):
        about += "; filters: the share that is computed, none in a skipped block"
    if rates.left_out:
        about += f"; {rates.left_out} classes between are left out"
    return Headline(title, about)


def plot(rates: ClassRates, blank: Blank) -> Figure:
    table = np.array(rates.rates)
    figure = blank(max(2.9, 0.24 * len(table) + 1.3))
    axes = panel(figure, 0.12, 0.74, 0.95)
    image = heat_map(axes, table, [short(name) for name in rates.classes], rates.gates)
    axes.set_xlabel("gate, by depth", color=SOFT, fontsize=9)
    axes.set_ylabel("class, the cheapest first", color=SOFT, fontsize=9)
    side = panel(figure, 0.755, 0.88, 0.95)
    side.barh(np.arange(len(table)), table.mean(1), height=0.72, color=FRONT)
    for i, value in enumerate(table.mean(1)):
        side.text(value + 0.02, i, f"{100 * value:.0f} %", va="center", fontsize=8, color=INK)
    side.set_ylim(len(table) - 0.5, -0.5)
    side.set_xlim(0, 1.2)
    side.set_yticks([])
    side.set_xticks([])
    side.set_xlabel("mean over\nall gates", color=SOFT, fontsize=9)
    colour_bar(figure, image, "open rate", 0.95)
    return figure


def content(rates: ClassRates) -> str:
    rows = "".join(
        _row(name, rates.gates, row) for name, row in zip(rates.classes, rates.rates, strict=True)
    )
    columns = "".join(f"<th data-sort><span>{escape(gate)}</span></th>" for gate in rates.gates)
    head = f"<tr><th>class</th>{columns}<th data-sort class=by>mean of gates</th></tr>"
    table = f"<table>{tilted_head(rates.gates)}{head}</thead><tbody>{rows}</tbody></table>"
    return f"<div>{table}<p>{ramp(CIVIDIS, 'closed', 'open for all')} · a click on a gate sorts the classes</p></div>"


def _row(name: str, gates: Sequence[str], rates: Sequence[float]) -> str:
    cells = "".join(
        share_cell(rate, f"class {name}, {gate}: open for {percent(rate)}")
        for gate, rate in zip(gates, rates, strict=True)
    )
    mean = float(np.mean(rates))
    bar = f'<span class=bar style="width:{90 * mean:.0f}px"></span> {percent(mean, 0)}'
    return f'<tr><th>{escape(name)}</th>{cells}<td data-v="{mean:.4f}">{bar}</td></tr>'


PICTURE = Picture(
    name="class_rates",
    link="gates by class",
    key="class_rates",
    part=ClassRates,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
