"""The front as a picture: all points, the front with its intervals, and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.front.metric import metric_of
from search.front.offer import Offer, offer_of
from search.front.pareto import front as front_of
from search.objectives import MACS, Cost
from search.report.canvas import BASELINE, CLOUD, FRONT, INK, SOFT, as_png, canvas
from search.report.front_points import lowest_accuracy, points_to_draw
from search.report.front_text import about, offer_text, summary
from storage.records import PointRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


def front_png(
    study: str,
    points: Sequence[PointRecord],
    *,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    hypervolume: float,
    cost: Cost = MACS,
    majority: float | None = None,
    offer: Offer | None = None,
) -> bytes:
    """A PNG of all points, the front with its intervals, and the baselines; the cost on a log axis.

    `majority`, what always answering the largest class has, is a dotted line. `offer` is what the study offers, by
    default the cheapest point that is as good as the best.
    """
    offer = offer or offer_of(front, baselines, cost)
    cloud, front, baselines = points_to_draw(points, front, baselines, cost)
    metric = metric_of([*front, *baselines, *cloud])
    figure, axes = canvas(
        summary(study, front, baselines, cost=cost), about(points, hypervolume, majority)
    )
    if not (cloud or front or baselines):
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            "The picture appears when the first trial has finished.",
            ha="center",
            color=SOFT,
        )
        return as_png(figure)
    if cloud:
        x, y = cloud_places(cloud, cost)
        axes.scatter(
            x, y, s=13, color=CLOUD, alpha=0.4, linewidths=0, label="other operating points"
        )
    lowest = lowest_accuracy(cloud, front, baselines)
    scale_axes(axes, [*cloud, *front, *baselines], lowest, cost, majority)
    if majority is not None:
        axes.axhline(majority, color=INK, ls=":", lw=1.3, label=f"always {metric.always}")
    draw_series(axes, baselines, BASELINE, cost, marker="D", line="--", label="baselines")
    draw_series(axes, front, FRONT, cost, marker="o", line="-", label="front")
    if offer.point is not None and len(front_of(front, (cost,))) > 1:
        _ring(axes, offer.point, offer_text(offer, cost), cost)
    # drawn last, the front lies on top; read first, it comes first
    axes.legend(reverse=True, loc="lower right", framealpha=0.92, edgecolor="#e4e7eb", fontsize=9)
    return as_png(figure)


def _x(p: PointRecord, cost: Cost) -> float:
    return cost.shown(p)


def cloud_places(points: Sequence[PointRecord], cost: Cost) -> tuple[Floats, Floats]:
    """Where these points are drawn, x and y: matplotlib takes seconds for lists of 100,000 numbers."""
    return np.array([_x(p, cost) for p in points]), np.array([p.accuracy for p in points])


def draw_series(
    axes: Axes,
    members: Sequence[PointRecord],
    colour: str,
    cost: Cost,
    *,
    marker: str,
    line: str,
    label: str,
) -> None:
    """Markers with intervals, diamonds for baselines, and the best accuracy that each cost buys as a step line."""
    if not members:
        return
    x, y = np.array([_x(p, cost) for p in members]), np.array([p.accuracy for p in members])
    below = np.maximum(0, y - [p.accuracy_low for p in members])
    above = np.maximum(0, [p.accuracy_high for p in members] - y)
    axes.errorbar(x, y, yerr=[below, above], fmt="none", ecolor=colour, elinewidth=1.3, alpha=0.6)
    best = front_of(members, (cost,))
    # the last step runs on: a larger budget buys at least as much
    x_steps = [*(_x(p, cost) for p in best), axes.get_xlim()[1]]
    axes.step(
        x_steps,
        [*(p.accuracy for p in best), best[-1].accuracy],
        where="post",
        color=colour,
        ls=line,
        lw=1.4,
    )
    axes.plot([], [], marker=marker, ls=line, color=colour, mec="white", ms=7, lw=1.4, label=label)
    for shape, size in (("o", 7), ("D", 6.5)):
        own = [(_x(p, cost), p.accuracy) for p in members if (p.kind == "static") == (shape == "D")]
        if own:
            axes.plot(
                *zip(*own, strict=True), marker=shape, ls="none", color=colour, mec="white", ms=size
            )


def _ring(axes: Axes, p: PointRecord, label: str, cost: Cost) -> None:
    """A ring, named in the legend: beside the point there is not always room for a text."""
    ring: dict[str, Any] = {"marker": "o", "mfc": "none", "mec": INK, "mew": 1.3, "ls": "none"}
    axes.plot([_x(p, cost)], [p.accuracy], ms=13, **ring)
    axes.plot([], [], ms=9, **ring, label=label)


def scale_axes(
    axes: Axes,
    points: Sequence[PointRecord],
    lowest: float,
    cost: Cost,
    majority: float | None = None,
) -> None:
    """A log cost axis with readable ticks, accuracy in percent from the lowest accuracy that is drawn."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    costs = [_x(p, cost) for p in points]
    margin = max((max(costs) / min(costs)) ** 0.04, 1.1)
    low, high = min(costs) / margin, max(costs) * margin
    top = max(max(p.accuracy, min(p.accuracy_high, 1.0)) for p in points)
    if majority is not None:
        lowest, top = min(lowest, majority), max(top, majority)
    space = max(0.07 * (top - lowest), 0.005)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(max(0.0, lowest - space), top + space)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value, cost)))
    axes.yaxis.set_major_locator(
        FixedLocator([v for v in _round_steps(lowest - space, top + space, 7) if v <= 1])
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))
    axes.set_xlabel(cost.label, color=SOFT)
    axes.set_ylabel(f"validation {metric_of(points).label}", color=SOFT)


def _tick_text(amount: float, cost: Cost) -> str:
    """1 M, not 1.00 M."""
    number, _, unit = cost.write(amount).partition(" ")
    return f"{float(number):g} {unit}".rstrip()


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers for a log axis: several of each decade, fewer of each where there are many decades."""
    decades = range(floor(log10(low)), floor(log10(high)) + 1)
    found: list[float] = []
    for parts in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [part * 10.0**e for e in decades for part in parts if low <= part * 10.0**e <= high]
        if len(found) <= 8:
            break
    return found[:: ceil(len(found) / 8)] if len(found) > 2 else _round_steps(low, high, 6)


def _round_steps(low: float, high: float, count: int) -> list[float]:
    """At most about `count` evenly spaced round numbers from low to high."""
    raw = (high - low) / count
    size = 10.0 ** floor(log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * (1 - 1e-9))
    return [i * step for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]
