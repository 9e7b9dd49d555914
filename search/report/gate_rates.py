"""How often gates are open over a training, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from search.report.canvas import SOFT, as_png, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def gate_rates_png(
    title: str, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]
) -> bytes:
    """A PNG of how often each gate is open over the training; gates in order of depth.

    Up to 12 gates are lines coloured by depth, more are rows of a heat map. Raises ValueError without gates.
    """
    if not rates or not epochs:
        raise ValueError(
            "there are no gate rates to draw: the net has no gates, or no epoch has ended"
        )
    wrong = [name for name, values in rates.items() if len(values) != len(epochs)]
    if wrong:
        raise ValueError(
            f"gate {wrong[0]} has {len(rates[wrong[0]])} rates for {len(epochs)} epochs; give one each"
        )
    figure, axes = canvas(title, "share of images for which each gate is open, validation")
    (_rate_lines if len(rates) <= 12 else _rate_map)(figure, axes, epochs, rates)
    axes.set_xlabel("epoch", color=SOFT)
    return as_png(figure)


def _rate_lines(
    figure: Figure, axes: Axes, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]
) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colours = colormaps["viridis"](np.linspace(0, 0.9, len(rates)))
    for (name, values), colour in zip(rates.items(), colours, strict=True):
        label = name.replace("$", r"\$")
        axes.plot(
            epochs,
            values,
            color=colour,
            lw=1.8,
            marker="o",
            ms=3 if len(epochs) > 1 else 6,
            label=label,
        )
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_ylabel("open rate", color=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_position((0.085, 0.115, 0.72, 0.745))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=9,
        title="gate, by depth",
    )


def _rate_map(
    figure: Figure, axes: Axes, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]
) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_position((0.14, 0.115, 0.73, 0.745))
    axes.grid(visible=False)
    table = np.array([list(values) for values in rates.values()], dtype=float)
    image = axes.imshow(
        table, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest"
    )
    names = list(rates)
    shown = range(0, len(names), ceil(len(names) / 28))
    axes.set_yticks(shown, [names[i].replace("$", r"\$") for i in shown], fontsize=8)
    ticks = range(0, len(epochs), ceil(len(epochs) / 16))
    axes.set_xticks(ticks, [str(epochs[i]) for i in ticks])
    bar = figure.colorbar(
        image,
        cax=figure.add_axes((0.89, 0.115, 0.018, 0.745)),
        format=PercentFormatter(1.0, symbol=" %"),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=9)
    bar.set_label("open rate", color=SOFT)
