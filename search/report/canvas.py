"""What all pictures share: colours, an empty figure, and the PNG of a full one.

Figures are made without pyplot: nothing global, so that threads can draw at the same time.
"""

from __future__ import annotations

import io
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # matplotlib takes a second to import; a page, a table or a note does without
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: the colour-blind can distinguish it, and shapes differ too
FRONT, BASELINE, CLOUD, INK, SOFT = "#0072b2", "#d55e00", "#8a97a5", "#1f2933", "#616e7c"

WIDTH = 82  # characters of a line of the title


def canvas(title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure of its own, without pyplot: nothing global, so that threads can draw at the same time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.4), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.115, 0.885, 0.745))
    lines = wrap(title, WIDTH)
    size, low = (13, 0.945) if len(lines) < 2 else (12 if len(lines) == 2 else 9, 0.921)
    # parse_math: a dollar sign in a study's name is no formula
    style: dict[str, Any] = {"parse_math": False, "va": "baseline"}
    headline = "\n".join(lines)
    figure.text(0.02, low, headline, fontsize=size, fontweight="bold", color=INK, **style)
    figure.text(0.02, low - 0.043, subtitle, fontsize=9.5, color=SOFT, **style)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelsize=9, left=False)
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def as_png(figure: Figure) -> bytes:
    from search.report.glyphs import make_drawable

    make_drawable(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
