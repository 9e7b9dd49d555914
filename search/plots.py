"""The front for people: interactive page, picture, table and note; and gate rates over a training."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from search.front import Point, knee, leaves
from search.front import front as front_of
from search.objectives import MACS, Cost, macs_text
from search.words import readable
from storage.records import Kind, training_text

if TYPE_CHECKING:  # matplotlib takes a second to import; a page, a table or a note does without
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by the colour-blind, and by shape besides
FRONT, PLAIN, CLOUD, INK, SOFT = "#0072b2", "#d55e00", "#8a97a5", "#1f2933", "#616e7c"
PAGE_POINTS = 3_000  # more make the page slow and large; those of the front are always all there
NOTE_BYTES = 7_900  # MLflow cuts a run's tag at 8,000
NUMBERS = ("accuracy", "accuracy_low", "accuracy_high", "macs_mean", "macs_p95", "macs_max")
NO_POINTS = "no operating point yet"


def summary(study: str, front: Sequence[Point], static: Sequence[Point] = (), *, cost: Cost = MACS) -> str:
    """One sentence: how many points the front has, and how many of them the plain nets do not match."""
    if not front:
        return f"{study}: {NO_POINTS}"
    count = f"{study}: {len(front)} {'point' if len(front) == 1 else 'points'} on the front"
    if plain := sum(p.kind == "static" for p in front):
        count += f" ({plain} of plain nets)"
    if not static:
        best = max(front, key=lambda p: p.accuracy)
        return f"{count}, up to {_percent(best.accuracy)} at {_amount(best, cost)}"
    ahead = sum(p.kind != "static" and beats_static(p, static, cost) for p in front)
    if ahead == 0:
        return f"{count}, none beats the plain nets of equal cost"
    return f"{count}, {ahead} {'beats' if ahead == 1 else 'beat'} every plain net of equal cost"


def beats_static(point: Point, static: Sequence[Point], cost: Cost = MACS) -> bool:
    """Whether it is more accurate than every plain net that costs no more.

    Where no plain net is that cheap, whether it is as accurate as one that costs more.
    """
    rivals = [p.accuracy for p in static if cost.of(p) <= cost.of(point)]
    if rivals:
        return point.accuracy > max(rivals)
    return any(point.accuracy >= p.accuracy for p in static)


def about(points: Sequence[Point], hypervolume: float) -> str:
    """What stands under the title."""
    trials = len({p.trial for p in points if p.kind != "static"})
    operating = sum(p.kind != "static" for p in points)
    return (
        f"{operating:,} operating {'point' if operating == 1 else 'points'} of {trials:,} "
        f"{'trial' if trials == 1 else 'trials'}, hypervolume {hypervolume:.3f}, bars are 95 % intervals"
    )


def front_html(
    study: str,
    points: Sequence[Point],
    *,
    front: Sequence[Point],
    static: Sequence[Point] = (),
    hypervolume: float,
    cost: Cost = MACS,
) -> str:
    """A page that needs nothing but itself, and works in a sandboxed frame: chart and table of the front.

    `cost` is what the study minimises: the x axis, and what the front is a front of.
    """
    cloud, front, static = _drawable(points, front, static, cost)
    shown, left_out = _thinned(cloud)
    text = about(points, hypervolume)
    if left_out:
        text += f"; {len(shown):,} of the {len(cloud):,} points off the front are drawn"
    parts = {
        "title": escape(summary(study, front, static, cost=cost)),
        "about": escape(text),
        "data": _embedded(shown, front, static, cost),
    }
    page = files("search").joinpath("front_page.html").read_text(encoding="utf-8")
    return re.sub("@(title|about|data)@", lambda match: parts[match[1]], page)


def front_png(
    study: str,
    points: Sequence[Point],
    *,
    front: Sequence[Point],
    static: Sequence[Point] = (),
    hypervolume: float,
    cost: Cost = MACS,
) -> bytes:
    """A PNG of all points, the front with its intervals, and the plain nets; the cost on a log axis."""
    cloud, front, static = _drawable(points, front, static, cost)
    figure, axes = _canvas(summary(study, front, static, cost=cost), about(points, hypervolume))
    if not (cloud or front or static):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "The picture appears when the first trial has finished.", ha="center", color=SOFT)
        return _png(figure)
    if cloud:
        x, y = [_x(p, cost) for p in cloud], [p.accuracy for p in cloud]
        axes.scatter(x, y, s=13, color=CLOUD, alpha=0.4, linewidths=0, label="other operating points")
    _scale(axes, [*cloud, *front, *static], _floor(cloud, front, static), cost)
    _series(axes, static, PLAIN, cost, marker="D", line="--", label="plain nets")
    _series(axes, front, FRONT, cost, marker="o", line="-", label="front")
    if len(standing := front_of(front, (cost,))) > 2:
        _mark_knee(axes, knee(standing, cost), cost)
    # drawn last, the front lies on top; read first, it stands first
    axes.legend(reverse=True, loc="lower right", framealpha=0.92, edgecolor="#e4e7eb", fontsize=9)
    return _png(figure)


def gate_rates_png(title: str, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]) -> bytes:
    """A PNG of how often each gate is open over the training; gates in order of depth.

    Up to 12 gates are lines coloured by depth, more are rows of a heat map. Raises ValueError without gates.
    """
    if not rates or not epochs:
        raise ValueError("there are no gate rates to draw: the net has no gates, or no epoch has ended")
    wrong = [name for name, values in rates.items() if len(values) != len(epochs)]
    if wrong:
        raise ValueError(f"gate {wrong[0]} has {len(rates[wrong[0]])} rates for {len(epochs)} epochs; give one each")
    figure, axes = _canvas(title, "share of images for which each gate is open, validation")
    (_rate_lines if len(rates) <= 12 else _rate_map)(figure, axes, epochs, rates)
    axes.set_xlabel("epoch", color=SOFT)
    return _png(figure)


def front_table(points: Iterable[Point], cost: Cost = MACS) -> dict[str, list[Any]]:
    """The front as MLflow shows tables: {"columns": [...], "data": [[...]]}, the cheapest first."""
    columns = ["trial", "family", "accuracy", "accuracy_low", "accuracy_high"]
    columns += ["macs_mean", "macs_p95", "macs_max", "parameters"]
    data = [
        [*(getattr(p, c) for c in columns), _settings(readable(p.knobs)), _settings(p.params), p.run_id or ""]
        for p in sorted(points, key=cost.of)
    ]
    return {"columns": [*columns, "knobs", "params", "run_id"], "data": data}


def note(
    study: str,
    points: Sequence[Point],
    front: Sequence[Point],
    *,
    run_id: str,
    links: Mapping[tuple[Kind, int], str],
    static: Sequence[Point] = (),
    hypervolume: float | None = None,
    views: Mapping[str, str] | None = None,
    cost: Cost = MACS,
) -> str:
    """Markdown for the study's MLflow run: a summary, the picture of the front, and the front as a table.

    `links` has the address of a training's run, `views` names further addresses for the first line. When it
    gets longer than MLflow keeps, rows are left out evenly, but never the cheapest and the best.
    """
    first = f"**{_cell(summary(study, front, static, cost=cost))}**"
    for name, address in (views or {}).items():
        first += f" · [{_cell(name)}]({address})"
    picture = f"![front](/get-artifact?path=pareto%2Ffront.png&run_uuid={run_id})"
    head = f"{first}\n\n{picture}\n\n"
    if hypervolume is not None:
        head += f"{about(points, hypervolume)}\n\n"
    columns = ["trial", "family", "accuracy", "95 % interval", "MACs mean", "MACs p95", "parameters", "knobs"]
    head += f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"
    rows = [_note_row(p, links.get(p.training)) for p in front]
    # no need to try more rows than would fit if all were as short as the shortest
    fitting = min(len(rows), NOTE_BYTES // min(map(len, rows), default=NOTE_BYTES))
    for kept in range(fitting, -1, -1):
        left_out = len(rows) - kept
        body = "".join(rows[i] for i in _evenly(len(rows), kept))
        tail = f"\n{left_out} of {len(rows)} rows are left out here; pareto/front.csv has all.\n" if left_out else ""
        if len((head + body + tail).encode()) <= NOTE_BYTES:
            return head + body + tail
    return head[: NOTE_BYTES // 4]


def _note_row(p: Point, address: str | None) -> str:
    trial = f"[{p.name}]({address})" if address else p.name
    interval = f"{_percent(p.accuracy_low)} to {_percent(p.accuracy_high)}"
    costs = [macs_text(v) for v in (p.macs_mean, p.macs_p95, p.parameters)]
    knobs = _cell(_settings(readable(p.knobs)))
    knobs = knobs if len(knobs) <= 120 else knobs[:117] + "..."
    return f"| {' | '.join([trial, _cell(p.family), _percent(p.accuracy, 2), interval, *costs, knobs])} |\n"


def _cell(text: str) -> str:
    """Text that cannot end its table cell or start a tag."""
    return " ".join(escape(text, quote=False).replace("|", "\\|").split())


def _evenly(count: int, kept: int) -> list[int]:
    """`kept` indexes below `count`, both ends among them when there are two."""
    return [int(i) for i in np.linspace(0, count - 1, kept).round()] if kept else []


def _settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in leaves(values).items())


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _drawable(
    points: Sequence[Point], front: Sequence[Point], static: Sequence[Point], cost: Cost
) -> tuple[list[Point], list[Point], list[Point]]:
    """Points off the front, the front and the plain nets, each finite, each point in one of them."""

    def finite(some: Iterable[Point]) -> list[Point]:
        return [p for p in some if all(isfinite(getattr(p, key)) for key in NUMBERS)]

    def same(p: Point) -> tuple[Kind, int, float, float]:
        return (*p.training, p.accuracy, p.macs_mean)

    elsewhere = {same(p) for p in (*front, *static)}
    cloud = [p for p in finite(points) if p.kind != "static" and same(p) not in elsewhere]

    def by_cost(some: Iterable[Point]) -> list[Point]:
        return sorted(finite(some), key=cost.of)

    return cloud, by_cost(front), by_cost(static)


def _thinned(cloud: list[Point]) -> tuple[list[Point], int]:
    """At most PAGE_POINTS of them, evenly, and how many were left out."""
    if len(cloud) <= PAGE_POINTS:
        return cloud, 0
    return [cloud[i] for i in _evenly(len(cloud), PAGE_POINTS)], len(cloud) - PAGE_POINTS


def _floor(cloud: Sequence[Point], front: Sequence[Point], static: Sequence[Point]) -> float:
    """The lowest accuracy worth the paper: all of the front and the plain nets, and nearly all others."""
    lowest = [min(p.accuracy, p.accuracy_low) for p in (*front, *static)]
    if cloud:
        lowest.append(float(np.quantile([p.accuracy for p in cloud], 0.05)))
    return min(lowest, default=0.0)


def _embedded(cloud: Sequence[Point], front: Sequence[Point], static: Sequence[Point], cost: Cost) -> str:
    """JSON that can stand inside a script element; what points share is written once."""
    configs: dict[str, int] = {}
    knobs: dict[str, int] = {}

    def index(known: dict[str, int], value: Any) -> int:
        return known.setdefault(json.dumps(value, default=str), len(known))

    rows = [
        [
            index(configs, {"family": p.family, "params": _plain(p.params)}),
            *(p.name, round(p.accuracy, 5), round(p.accuracy_low, 5), round(p.accuracy_high, 5)),
            *(round(v) for v in (p.macs_mean, p.macs_p95, p.macs_max, p.parameters)),
            *(index(knobs, _plain(readable(p.knobs))), role),
        ]
        for role, members in (("cloud", cloud), ("plain", static), ("front", front))
        for p in members
    ]
    known = f'"configs":[{",".join(configs)}],"knobs":[{",".join(knobs)}]'
    view = f'"cost":"{cost.name}","axis":"{cost.label}","floor":{_floor(cloud, front, static):.5f}'
    text = f'{{{view},{known},"points":{json.dumps(rows, separators=(",", ":"))}}}'
    # "</script>" in a name would end the element
    return text.replace("<", "\\u003c")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """One level of settings that every JSON reader takes: NaN and infinity become text."""
    return {k: str(v) if isinstance(v, float) and not isfinite(v) else v for k, v in leaves(values).items()}


def _canvas(title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure of its own, without pyplot: nothing global, so that threads can draw at the same time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.4), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.115, 0.885, 0.745))
    # parse_math: a dollar sign in a study's name is no formula
    figure.text(0.02, 0.945, title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(0.02, 0.9, subtitle, fontsize=9.5, color=SOFT, parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa5b1")
    axes.tick_params(colors=SOFT, labelsize=9, left=False)
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _x(p: Point, cost: Cost) -> float:
    return max(cost.of(p), 1.0)  # a log axis has no place for zero


def _amount(p: Point, cost: Cost) -> str:
    """What it costs, in words: "464 k MACs"."""
    return f"{macs_text(cost.of(p))} {cost.unit}"


def _series(
    axes: Axes, members: Sequence[Point], colour: str, cost: Cost, *, marker: str, line: str, label: str
) -> None:
    """Markers with intervals, diamonds for plain nets, and the best accuracy that each cost buys as a step line."""
    if not members:
        return
    x, y = np.array([_x(p, cost) for p in members]), np.array([p.accuracy for p in members])
    below = np.maximum(0, y - [p.accuracy_low for p in members])
    above = np.maximum(0, [p.accuracy_high for p in members] - y)
    axes.errorbar(x, y, yerr=[below, above], fmt="none", ecolor=colour, elinewidth=1.3, alpha=0.6)
    best = front_of(members, (cost,))
    # the last step runs on: a larger budget buys at least as much
    x_steps = [*(_x(p, cost) for p in best), axes.get_xlim()[1]]
    axes.step(x_steps, [*(p.accuracy for p in best), best[-1].accuracy], where="post", color=colour, ls=line, lw=1.4)
    axes.plot([], [], marker=marker, ls=line, color=colour, mec="white", ms=7, lw=1.4, label=label)
    for shape, size in (("o", 7), ("D", 6.5)):
        own = [(_x(p, cost), p.accuracy) for p in members if (p.kind == "static") == (shape == "D")]
        if own:
            axes.plot(*zip(*own, strict=True), marker=shape, ls="none", color=colour, mec="white", ms=size)


def _mark_knee(axes: Axes, p: Point, cost: Cost) -> None:
    """A ring, named in the legend: beside the point there is not always room for a text."""
    label = f"knee: {_percent(p.accuracy)} at {_amount(p, cost)} ({training_text(*p.training)})"
    ring: dict[str, Any] = {"marker": "o", "mfc": "none", "mec": INK, "mew": 1.3, "ls": "none"}
    axes.plot([_x(p, cost)], [p.accuracy], ms=13, **ring)
    axes.plot([], [], ms=9, **ring, label=label)


def _scale(axes: Axes, points: Sequence[Point], lowest: float, cost: Cost) -> None:
    """A log cost axis with readable ticks, accuracy in percent from the lowest accuracy worth drawing."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    costs = [_x(p, cost) for p in points]
    margin = max((max(costs) / min(costs)) ** 0.04, 1.1)
    low, high = min(costs) / margin, max(costs) * margin
    top = max(max(p.accuracy, min(p.accuracy_high, 1.0)) for p in points)
    space = max(0.07 * (top - lowest), 0.005)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(max(0.0, lowest - space), top + space)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value)))
    axes.yaxis.set_major_locator(FixedLocator([v for v in _round_steps(lowest - space, top + space, 7) if v <= 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))
    axes.set_xlabel(cost.label, color=SOFT)
    axes.set_ylabel("validation accuracy", color=SOFT)


def _tick_text(macs: float) -> str:
    """1 M, not 1.00 M."""
    number, _, unit = macs_text(macs).partition(" ")
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


def _rate_lines(figure: Figure, axes: Axes, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colours = colormaps["viridis"](np.linspace(0, 0.9, len(rates)))
    for (name, values), colour in zip(rates.items(), colours, strict=True):
        label = name.replace("$", r"\$")
        axes.plot(epochs, values, color=colour, lw=1.8, marker="o", ms=3 if len(epochs) > 1 else 6, label=label)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_ylabel("open rate", color=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_position((0.085, 0.115, 0.72, 0.745))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, title="gate, by depth")


def _rate_map(figure: Figure, axes: Axes, epochs: Sequence[int], rates: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_position((0.14, 0.115, 0.73, 0.745))
    axes.grid(visible=False)
    table = np.array([list(values) for values in rates.values()], dtype=float)
    image = axes.imshow(table, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    names = list(rates)
    shown = range(0, len(names), ceil(len(names) / 28))
    axes.set_yticks(shown, [names[i].replace("$", r"\$") for i in shown], fontsize=8)
    ticks = range(0, len(epochs), ceil(len(epochs) / 16))
    axes.set_xticks(ticks, [str(epochs[i]) for i in ticks])
    bar = figure.colorbar(
        image, cax=figure.add_axes((0.89, 0.115, 0.018, 0.745)), format=PercentFormatter(1.0, symbol=" %")
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=9)
    bar.set_label("open rate", color=SOFT)
