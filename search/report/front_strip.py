"""The front as a strip of a picture: as much as MLflow shows of a run's note before somebody asks for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.front.offer import Offer, offer_of
from search.front.pareto import front as front_of
from search.front.pick import DEFAULT
from search.objectives import MACS, Cost
from search.report.amounts import percent
from search.report.canvas import BASELINE, CLOUD, FRONT, INK, SOFT, as_png
from search.report.front_plot import cloud_places, draw_series
from search.report.front_points import points_to_draw
from storage.records import PointRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 7.0, 0.66  # inches
DPI = (
    100  # a note shows each pixel as one: 700 have room beside MLflow's assistant on a small screen
)
MOST_LOST = 0.25  # of the front's accuracy: points further below its best are not in the strip


def front_strip_png(
    points: Sequence[PointRecord],
    *,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    cost: Cost = MACS,
    offer: Offer | None = None,
) -> bytes:
    """A PNG of 700 by 66 pixels: the upper part of the front, the baselines, and the point on offer in words.

    `offer` is what the study offers, by default the cheapest point that is as good as the best.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    offer = offer or offer_of(front, baselines, cost)
    cloud, front, baselines = points_to_draw(points, front, baselines, cost)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.31, 0.21, 0.68, 0.75))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    if not front:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no front yet", ha="center", va="center", color=SOFT)
        return as_png(figure)
    _scale(axes, front, baselines, cost)
    axes.scatter(*cloud_places(cloud, cost), s=3, color=CLOUD, alpha=0.4, linewidths=0)
    draw_series(axes, baselines, BASELINE, cost, marker="D", line="--", label="")
    draw_series(axes, front, FRONT, cost, marker="o", line="-", label="")
    _words(figure, axes, front, offer.point, cost)
    return as_png(figure)


def _scale(
    axes: Axes, front: Sequence[PointRecord], baselines: Sequence[PointRecord], cost: Cost
) -> None:
    """Limits at what a choice is made from; the ends of the cost axis are written."""
    best = max(p.accuracy for p in front)
    shown = [p for p in front if p.accuracy > best - MOST_LOST]
    low = min(p.accuracy for p in shown)
    high = max(p.accuracy for p in (*shown, *baselines))
    costs = [cost.shown(p) for p in (*shown, *front_of(baselines, (cost,)))]
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.15, max(costs) * 1.25)
    axes.set_ylim(low - 0.15 * (high - low) - 1e-3, high + 0.25 * (high - low) + 1e-3)
    axes.tick_params(labelsize=7, colors=SOFT, length=2, pad=1)
    axes.tick_params(which="minor", bottom=False, labelbottom=False)
    axes.set_yticks([])
    ends = dict.fromkeys((min(costs), max(costs)))
    axes.set_xticks(list(ends), [cost.text(end) for end in ends])
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right" if len(labels) > 1 else "left")


def _words(
    figure: Figure,
    axes: Axes,
    front: Sequence[PointRecord],
    offered: PointRecord | None,
    cost: Cost,
) -> None:
    """The point on offer, ringed and in words; and the best."""
    best = max(front, key=lambda p: p.accuracy)
    ring: dict[str, Any] = {"marker": "o", "mfc": "none", "mec": INK, "mew": 1.2, "ls": "none"}
    style: dict[str, Any] = {"color": INK, "parse_math": False, "va": "top"}
    for name, q, high, weight in ((DEFAULT, offered, 0.98, "bold"), ("best", best, 0.66, "normal")):
        if q is None:
            continue
        if q is offered:
            axes.plot([cost.shown(q)], [q.accuracy], ms=12, **ring)
        words = f"{name}: {percent(q.accuracy)} at {cost.text(cost.of(q))}"
        figure.text(0.0, high, words, fontsize=9, fontweight=weight, **style)
