"""How much each layer changes the class token at every place at which it can run."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from search.inspection.colours import VIRIDIS, colours
from search.inspection.figure import HEADER
from search.inspection.layer_places import LayerPlaces
from search.inspection.markup import tip
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.canvas import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 24


@dataclass(frozen=True)
class LayerMoves:
    """How much each layer changes the class token (L2 norm, over the layer's mean) at each place.

    `counts[layer][place]` are histograms over `edges`, `means[layer][place]` the means.
    """

    images: int
    edges: list[float]
    counts: list[list[list[int]]]
    means: list[list[float]]
    norms: list[float]  # each layer's mean, which its numbers are multiples of
    trained: bool = True  # to move

    def curve(self) -> np.ndarray:
        """Where the points of a histogram's line lie: its middles between its ends."""
        edges = np.array(self.edges)
        return np.array([edges[0], *(edges[1:] + edges[:-1]) / 2, edges[-1]])


def measure(subject: Subject) -> LayerMoves | None:
    """None where layers cannot move."""
    return layer_moves(subject.layer_places) if subject.layer_places else None


def layer_moves(places: LayerPlaces) -> LayerMoves:
    norms_LPB = places.norms_LPB
    mean_L = norms_LPB.mean((1, 2)).clamp_min(1e-12)
    relative_LPB = norms_LPB / mean_L[:, None, None]
    edges = np.linspace(0, max(float(np.quantile(relative_LPB.numpy(), 0.999)), 1.5), BINS + 1)
    return LayerMoves(
        images=norms_LPB.shape[2],
        edges=[round(float(edge), 4) for edge in edges],
        counts=[
            [np.histogram(place, edges)[0].tolist() for place in layer.numpy()]
            for layer in relative_LPB
        ],
        means=[[round(float(place.mean()), 4) for place in layer] for layer in relative_LPB],
        norms=[round(float(norm), 5) for norm in mean_L],
        trained=places.trained,
    )


def headline(moves: LayerMoves, images: int) -> Headline:
    table = np.array(moves.means)
    layer, place = np.unravel_index(int(table.argmax()), table.shape)
    largest = f"{table[layer, place]:.1f} times as much as on average"
    about = (
        f"change (L2 norm) of the class token over the layer's mean; {moves.images} images, "
        "layers in arbitrary orders"
    )
    return Headline(
        f"At place {place}, layer{layer} changes the class token {largest}",
        about if moves.trained else f"{about}, not trained for them",
    )


def plot(moves: LayerMoves, blank: Blank) -> Figure:
    count = len(moves.counts)
    across = min(count, 4)
    down = ceil(count / across)
    figure = blank(down * (0.27 * count + 0.75) + 0.35)
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    total = float(figure.get_size_inches()[1])
    figure.subplots_adjust(0.06, 0.55 / total, 0.985, 1 - (HEADER + 0.3) / total, 0.1, 0.3)
    for layer, axes in enumerate(grid.flat):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=SOFT, labelsize=8.5, length=0)
        if layer >= count:
            axes.set_axis_off()
            continue
        _plot_layer(axes, moves, layer)
        axes.set_yticks(
            range(count), [str(count - 1 - i) for i in range(count)] if layer % across == 0 else []
        )
    note = (
        "change of the class token over the layer's mean; tick: mean, dashed: the layer's own place"
    )
    figure.supxlabel(note, fontsize=9, color=SOFT, y=0.14 / total)
    for row in grid:
        row[0].set_ylabel("runs at place", fontsize=9, color=SOFT)
    return figure


def _plot_layer(axes: Axes, moves: LayerMoves, layer: int) -> None:
    """A histogram a place, the first on top; later ones are drawn over those above them."""
    from matplotlib import colormaps

    count, x = len(moves.counts), moves.curve()
    shades = colormaps["viridis"](np.linspace(0, 0.9, count))
    for place in range(count):
        height = np.array([0, *moves.counts[layer][place], 0], dtype=float)
        height = 1.7 * height / max(height.max(), 1.0)
        base = count - 1 - place
        axes.fill_between(
            x,
            base,
            base + height,
            color=shades[place],
            alpha=0.85,
            lw=0.8,
            ec="white",
            zorder=place,
        )
        mean = moves.means[layer][place]
        axes.plot([mean], [base + 0.12], marker="|", ms=7, mew=1.6, color=INK, zorder=count + 1)
    axes.axhline(count - 1 - layer, color=INK, lw=1, ls=(0, (3, 2)), zorder=count + 2)
    axes.set_ylim(-0.15, count + 0.9)
    axes.set_xlim(0, 1.03 * moves.edges[-1])
    axes.set_title(
        f"layer{layer} (mean change {moves.norms[layer]:.2g})", fontsize=9, color=INK, loc="left"
    )


def content(moves: LayerMoves) -> str:
    note = (
        "rows: place at which the layer runs, its own outlined; along: change of the class token "
        "over the layer's mean"
    )
    panels = "".join(_layer_html(moves, layer) for layer in range(len(moves.counts)))
    return panels + f'<p class="wide">{note}</p>'


def _layer_html(moves: LayerMoves, layer: int) -> str:
    count = len(moves.counts)
    shades = colours(VIRIDIS, count)
    width, step, left, top = 250, 26, 26, 34
    height = top + step * count + 24
    x = left + (width - left - 8) * np.array([0, *moves.curve()[1:]]) / moves.edges[-1]
    drawn = f'<text x="{left}" y="12" style="fill:#1f2933">layer{layer}, mean change {moves.norms[layer]:.2g}</text>'
    for place in range(count):
        base = top + step * (place + 1)
        counts = np.array([0, *moves.counts[layer][place], 0])
        y = base - 1.5 * step * counts / max(int(counts.max()), 1)
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        hint = f"layer{layer} at place {place}: mean {moves.means[layer][place]:.2f} times the layer's mean"
        own = ' stroke="#1f2933" stroke-width="1.4"' if place == layer else ' stroke="#fff"'
        drawn += (
            f'<polygon {tip(hint)} points="{line}" fill="{shades[place]}" fill-opacity=".85"{own}/>'
        )
        drawn += f'<text x="{left - 8}" y="{base}" text-anchor="end">{place}</text>'
    for tick in (0.5, 1.0, 1.5, 2.0, 3.0):
        if tick < moves.edges[-1]:
            at = left + (width - left - 8) * tick / moves.edges[-1]
            drawn += f'<text x="{at:.1f}" y="{height - 4}" text-anchor="middle">{tick:g}</text>'
    return f'<div><svg width="{width}" height="{height}">{drawn}</svg></div>'


PICTURE = Picture(
    name="layer_moves",
    link="layers at other places",
    key="moves",
    part=LayerMoves,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
