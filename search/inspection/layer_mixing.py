"""From which layers each layer takes its input, in networks that mix the outputs of those before.

Shapes: N images, J sources of a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from search.inspection.by_class import round_values
from search.inspection.colours import CIVIDIS, RED_BLUE
from search.inspection.figure import colour_bar, heat_map, panel
from search.inspection.markup import difference_cell, ramp, share_cell, tilted_head
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.amounts import percent
from search.report.canvas import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = list[list[float]]


@dataclass(frozen=True)
class Mixtures:
    """Mean weights of each layer (from the second on) over its sources: the stem, then the layers before.

    `right` and `wrong` are of images answered so; None where there were none.
    """

    right: Rows | None
    wrong: Rows | None

    def tables(self) -> dict[str, Rows]:
        """Those that there are, by what they are of."""
        both = {"answered right": self.right, "answered wrong": self.wrong}
        return {name: rows for name, rows in both.items() if rows}


def measure(subject: Subject) -> Mixtures | None:
    """None where no layer mixes."""
    seen = subject.seen
    if not seen.mixtures:
        return None

    def means(here_N: Tensor) -> Rows | None:
        if not bool(here_N.any()):
            return None
        return [round_values(weights_NJ[here_N].mean(0)) for weights_NJ in seen.mixtures]

    return Mixtures(means(seen.correct_N), means(~seen.correct_N))


def headline(mixtures: Mixtures, images: int) -> Headline:
    table = mixtures.right or mixtures.wrong or []
    latest = float(np.mean([row[-1] for row in table]))
    return Headline(
        f"Layers take {percent(latest, 0)} of their input from the layer just before",
        "mean weight of each source (columns) in a layer's input (rows), for images answered right and wrong",
    )


def plot(mixtures: Mixtures, blank: Blank) -> Figure:
    tables = {name: _triangle(rows) for name, rows in mixtures.tables().items()}
    names = list(tables)
    count = tables[names[0]].shape[1]
    figure = blank(max(2.5, 0.3 * count + 1.2))
    if len(names) == 1:
        _plot_table(figure, (0.085, 0.6), names[0], tables[names[0]], first=True, bar=True)
        return figure
    right, wrong = tables.values()
    _plot_table(figure, (0.085, 0.325), names[0], right, first=True)
    _plot_table(figure, (0.345, 0.585), names[1], wrong, bar=True)
    _plot_table(figure, (0.69, 0.93), "right minus wrong", right - wrong, bar=True, difference=True)
    return figure


def _plot_table(
    figure: Figure,
    span: tuple[float, float],
    name: str,
    table: np.ndarray,
    *,
    first: bool = False,
    bar: bool = False,
    difference: bool = False,
) -> None:
    """One table; the first has names of layers, those with a bar the legend of their colours."""
    axes = panel(figure, *span, 0.9, 0.3)
    layers = [f"layer{i + 1}" for i in range(len(table))] if first else []
    image = heat_map(axes, table, layers, _sources(table.shape[1]), difference=difference)
    axes.set_title(name, fontsize=9.5, color=INK, loc="left")
    axes.set_xlabel("source", color=SOFT, fontsize=9)
    if first:
        axes.set_ylabel("layer that reads", color=SOFT, fontsize=9)
    if bar:
        colour_bar(figure, image, "weight", 0.9, span[1] + 0.01, top=0.3)


def _triangle(rows: Rows) -> np.ndarray:
    """Rows of growing length as a table, empty where a layer has no such source."""
    table = np.full((len(rows), len(rows[-1])), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _sources(count: int) -> list[str]:
    """The stem, then layers."""
    return ["stem", *(f"layer{i}" for i in range(count - 1))]


def content(mixtures: Mixtures) -> str:
    drawn = "".join(_shares(name, rows) for name, rows in mixtures.tables().items())
    if mixtures.right and mixtures.wrong:
        drawn += _differences(mixtures.right, mixtures.wrong)
    return drawn


def _shares(title: str, rows: Rows) -> str:
    cells = [
        [
            share_cell(weight, f"{_reading(layer, source)}: {100 * weight:.1f} %")
            for source, weight in enumerate(row)
        ]
        for layer, row in enumerate(rows)
    ]
    return _table(title, cells, ramp(CIVIDIS, "0", "100 %"))


def _differences(right: Rows, wrong: Rows) -> str:
    rows = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(right, wrong, strict=True)]
    reach = max((abs(value) for row in rows for value in row), default=1.0) or 1.0
    cells = [
        [
            difference_cell(value, f"{_reading(layer, source)}: {100 * value:+.1f} %", reach)
            for source, value in enumerate(row)
        ]
        for layer, row in enumerate(rows)
    ]
    return _table(
        "right minus wrong", cells, ramp(RED_BLUE, f"-{percent(reach, 0)}", percent(reach, 0))
    )


def _reading(layer: int, source: int) -> str:
    return f"layer{layer + 1} reads {_sources(source + 1)[source]}"


def _table(title: str, cells: Sequence[Sequence[str]], scale: str) -> str:
    names = _sources(len(cells[-1]))
    head = "".join(f"<th><span>{name}</span></th>" for name in names)
    body = "".join(f"<tr><th>layer{i + 1}</th>{''.join(row)}</tr>" for i, row in enumerate(cells))
    table = f"<table>{tilted_head(names)}<tr><th>reads</th>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div><h3>{title}</h3>{table}<p>{scale}</p></div>"


PICTURE = Picture(
    name="layer_mixing",
    link="layer mixing",
    key="mixtures",
    part=Mixtures,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
