"""The frame that pictures of an inspection share: headline, panels, heat maps.

Figures are made without pyplot: nothing global, so that threads can draw at the same time.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from search.inspection.picture import Headline
from search.report.canvas import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

WIDTH, HEADER = 9.2, 0.82  # inches
SLANT: dict[str, Any] = {
    "rotation": 45,
    "ha": "right",
    "rotation_mode": "anchor",
}  # of long names below an axis


def blank(headline: Headline, network: str, height: float) -> Figure:
    """An empty figure of `height` inches below its header, which ends with what `network` says of the network."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    total = height + HEADER
    figure = Figure(figsize=(WIDTH, total), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    # parse_math: a dollar sign in a class's name is no formula
    figure.text(
        0.02,
        1 - 0.3 / total,
        headline.title,
        fontsize=13,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )
    figure.text(0.02, 1 - 0.53 / total, headline.about, fontsize=8.6, color=SOFT, parse_math=False)
    figure.text(0.02, 1 - 0.72 / total, network, fontsize=8.6, color=SOFT, parse_math=False)
    return figure


def panel(figure: Figure, left: float, right: float, bottom: float, top: float = 0.1) -> Axes:
    """Axes from `left` to `right` of the width, `bottom` and `top` inches from the figure's edge and header."""
    total = float(figure.get_size_inches()[1])
    axes = figure.add_axes(
        (left, bottom / total, right - left, 1 - (bottom + top + HEADER) / total)
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelsize=8.5, length=0)
    axes.set_axisbelow(True)
    return axes


def legend_below(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        frameon=False,
        fontsize=7.8,
        handletextpad=0.4,
        columnspacing=1.0,
    )


def heat_map(
    axes: Axes, table: np.ndarray, rows: list[str], columns: list[str], *, difference: bool = False
) -> AxesImage:
    """A table of shares (or of differences of shares) in colours, its numbers written in where they can be read."""
    axes.spines["bottom"].set_visible(False)
    reach = max(float(np.nanmax(np.abs(table))), 0.01) if difference else 1.0
    scale: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 1}
    if difference:
        scale = {"cmap": "RdBu", "vmin": -reach, "vmax": reach}
    image = axes.imshow(table, aspect="auto", interpolation="nearest", **scale)
    step = ceil(len(columns) / 24)
    axes.set_xticks(range(0, len(columns), step), columns[::step], **SLANT)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    if len(columns) <= 14 and len(table) <= 24:
        _write_numbers(axes, table, reach if difference else None)
    return image


def _write_numbers(axes: Axes, table: np.ndarray, reach: float | None) -> None:
    """Percentages in a heat map; with a sign, and white at both ends, where `reach` says how far differences go."""
    for (i, j), value in np.ndenumerate(table):
        if not np.isfinite(value):
            continue
        dark = value < 0.55 if reach is None else abs(value) > 0.6 * reach
        text = f"{100 * abs(value):.0f}"
        if reach is not None and round(100 * value):
            text = f"{round(100 * value):+d}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)


def colour_bar(
    figure: Figure,
    image: AxesImage,
    name: str,
    bottom: float,
    left: float = 0.915,
    top: float = 0.1,
) -> None:
    """The legend of a heat map's colours."""
    from matplotlib.ticker import PercentFormatter

    axes = panel(figure, left, left + 0.014, bottom, top)
    bar = figure.colorbar(image, cax=axes, format=PercentFormatter(1.0, 0, symbol=" %"))
    bar.outline.set_visible(False)
    axes.tick_params(colors=SOFT, labelsize=7.5, length=0)
    bar.set_label(name, color=SOFT, fontsize=8)


def below(figure: Figure, inches: float) -> float:
    """The height in the figure that lies so far below the header."""
    return 1 - (HEADER + inches) / float(figure.get_size_inches()[1])


def share_of_height(figure: Figure, inches: float) -> float:
    return inches / float(figure.get_size_inches()[1])


def short(name: str, length: int = 16) -> str:
    """The name, its end cut off where it is longer."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
