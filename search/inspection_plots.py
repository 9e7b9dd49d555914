"""Pictures of what a trained network does: one PNG a measure, for reports and the MLflow UI."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from search.front import macs_text
from search.inspection import Inspection, Shot
from search.inspection_frame import HEADER, WIDTH, as_png, below, blank, colour_bar, heat_map, panel, share_of_height
from search.inspection_layers import pixels_of
from search.inspection_words import Section, macs, sections, source_names
from search.report.canvas import FRONT, INK, PLAIN, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRONG = "#b42318"
EMPTY = "#eef1f4"


def pictures(found: Inspection, network: str) -> dict[str, bytes]:
    """A PNG by name of everything that applies to the network, which `network` describes."""
    return {one.name: _DRAWN[one.name](found, one, network) for one in sections(found)}


def _images(found: Inspection, section: Section, network: str) -> bytes:
    assert found.extremes is not None
    rows = {"least compute": found.extremes.cheapest, "most compute": found.extremes.dearest}
    figure = blank(section, network, 3.7)
    for number, (name, shots) in enumerate(rows.items()):
        width = 0.96 / len(shots)
        figure.text(0.02, below(figure, 0.2 + 1.85 * number), name, fontsize=10, fontweight="bold", color=FRONT)
        for place, shot in enumerate(shots):
            left, bottom = 0.02 + place * width, below(figure, 1.4 + 1.85 * number)
            axes = figure.add_axes((left, bottom, width * 0.94, share_of_height(figure, 1.1)))
            _show(axes, shot)
            axes.set_title(_caption(shot), fontsize=8.5, color=INK if shot.label == shot.answer else WRONG, y=-0.34)
    return as_png(figure)


def _attention(found: Inspection, section: Section, network: str) -> bytes:
    assert found.attention is not None
    samples, exits = found.attention.samples, found.attention.exits
    size = 0.82 * WIDTH / max(len(samples), 5)
    figure = blank(section, network, (size + 0.08) * (len(exits) + 1) + 0.5)
    cell = 0.82 / max(len(samples), 5)
    for place, shot in enumerate(samples):
        for row in range(len(exits) + 1):
            left, bottom = 0.1 + place * cell, below(figure, (size + 0.08) * (row + 1) + 0.28)
            axes = figure.add_axes((left, bottom, cell * 0.95, share_of_height(figure, size * 0.95)))
            _show(axes, shot, gray=row > 0)
            if not row:
                axes.set_title(_caption(shot), fontsize=8, color=INK if shot.label == shot.answer else WRONG)
                continue
            height, width = pixels_of(shot.png).shape[:2]
            axes.imshow(
                pixels_of(exits[row - 1].maps[place]), cmap="plasma", vmin=0, vmax=255, alpha=0.62,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear",
            )  # fmt: skip
    for row, name in enumerate(["image", *(one.exit for one in exits)]):
        middle = below(figure, (size + 0.08) * (row + 0.5) + 0.28)
        if row:
            height, width = pixels_of(exits[row - 1].maps[0]).shape
            name = f"{name}\n{height}x{width} map"
        figure.text(0.09, middle, name, ha="right", va="center", fontsize=9, color=INK)
        if row:
            one = exits[row - 1]
            figure.text(
                0.105 + len(samples) * cell, middle, f"{one.low:.2f} (blue)\nto {one.high:.2f}\n(yellow)",
                va="center", fontsize=7.5, color=SOFT,
            )  # fmt: skip
    return as_png(figure)


def _exits(found: Inspection, section: Section, network: str) -> bytes:
    from matplotlib import colormaps
    from matplotlib.ticker import PercentFormatter

    assert found.exits is not None
    used, by_class = found.exits.exits, found.exits
    figure = blank(section, network, max(3.4, 0.19 * len(by_class.classes) + 1.0))
    axes = panel(figure, 0.075, 0.5, 0.95)
    x = np.arange(len(used))
    colours = colormaps["viridis"](np.linspace(0.15, 0.9, len(used)))
    axes.bar(x, [one.share for one in used], width=0.62, color=colours)
    for i, one in enumerate(used):
        axes.text(i, one.share + 0.015, f"{100 * one.share:.0f} %", ha="center", fontsize=9, color=INK)
    answered = [(i, one.accuracy) for i, one in enumerate(used) if one.accuracy is not None]
    axes.plot(
        *zip(*answered, strict=True),
        ls="none",
        marker="D",
        ms=7,
        color=PLAIN,
        mec="white",
        label="right, of those it answers",
    )
    everyone = [(i, one.accuracy_all) for i, one in enumerate(used) if one.name != "ensemble"]
    axes.plot(
        *zip(*everyone, strict=True),
        ls="none",
        marker="o",
        ms=7,
        mfc="none",
        mec=PLAIN,
        mew=1.4,
        label="right, were all answered there",
    )
    axes.bar([0], [0], color=colours[0], label="share of images")
    axes.set_xticks(x, [f"{one.name}\n{macs(one.macs)}" for one in used])
    axes.set_ylim(0, 1.08)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    axes.set_ylabel("share of images, accuracy", color=SOFT, fontsize=9)
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=3,
        frameon=False,
        fontsize=7.8,
        handletextpad=0.4,
        columnspacing=1.0,
    )
    side = panel(figure, 0.63, 0.965, 0.95)
    left = np.zeros(len(by_class.classes))
    y = np.arange(len(by_class.classes))
    for k, one in enumerate(used):
        share = np.array([row[k] for row in by_class.by_class])
        side.barh(y, share, left=left, height=0.78, color=colours[k], label=one.name)
        left += share
    side.set_yticks(y, [_short(name) for name in by_class.classes], parse_math=False)
    side.invert_yaxis()
    side.set_xlim(0, 1)
    side.xaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    side.set_xlabel("share of the class's images", color=SOFT, fontsize=9)
    side.set_ylabel("class, the easiest first", color=SOFT, fontsize=9)
    side.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=min(5, len(used)),
        frameon=False,
        fontsize=7.8,
        handletextpad=0.4,
        columnspacing=1.0,
    )
    return as_png(figure)


def _class_rates(found: Inspection, section: Section, network: str) -> bytes:
    assert found.class_rates is not None
    rates = found.class_rates
    table = np.array(rates.rates)
    figure = blank(section, network, max(2.9, 0.24 * len(table) + 1.3))
    axes = panel(figure, 0.12, 0.74, 0.95)
    image = heat_map(axes, table, [_short(n) for n in rates.classes], rates.gates, rotate=True)
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
    return as_png(figure)


def _patterns(found: Inspection, section: Section, network: str) -> bytes:
    assert found.patterns is not None
    rows, gates = found.patterns.rows, found.patterns.gates
    tilted = len(gates) > 7
    height, bottom = max(len(rows), 4), 0.8 if tilted else 0.35
    figure = blank(section, network, 0.3 * height + bottom + 0.35)
    y = np.arange(len(rows))
    axes = panel(figure, 0.04, 0.5, bottom, 0.35)
    table = np.array([[int(one) for one in row.open] for row in rows])
    for i, j in np.ndindex(table.shape):
        axes.barh(i, 0.86, left=j - 0.43, height=0.74, color=FRONT if table[i, j] else EMPTY)
    axes.set_xlim(-0.6, len(gates) - 0.4)
    shown = range(0, len(gates), ceil(len(gates) / 20))
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if tilted else {}
    axes.set_xticks(shown, [gates[i] for i in shown], **slant)
    axes.set_yticks([])
    axes.set_title("layers that run (blue) and are skipped", fontsize=9, color=SOFT, loc="left")
    share = panel(figure, 0.53, 0.75, bottom, 0.35)
    share.barh(y, [row.share for row in rows], height=0.74, color=FRONT)
    for i, row in enumerate(rows):
        share.text(row.share, i, f" {100 * row.share:.1f} %", va="center", fontsize=8.5, color=INK)
    share.set_xlim(0, max(row.share for row in rows) * 1.35)
    share.set_xticks([])
    share.set_title("share of images", fontsize=9, color=SOFT, loc="left")
    right = panel(figure, 0.77, 0.9, bottom, 0.35)
    right.plot([row.accuracy for row in rows], y, ls="none", marker="D", ms=6, color=PLAIN)
    right.set_xlim(-0.05, 1.05)
    right.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
    right.grid(axis="x", color="#e9ecef", linewidth=0.8)
    right.set_title("accuracy", fontsize=9, color=SOFT, loc="left")
    for i, row in enumerate(rows):
        right.text(1.14, i, macs_text(row.macs), va="center", fontsize=8.5, color=INK, clip_on=False)
    right.annotate(
        "MACs", (1.09, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", fontsize=9, color=SOFT
    )
    for one in (axes, share, right):
        one.set_yticks([])
        one.set_ylim(height - 0.5, -0.5)
    return as_png(figure)


def _mixtures(found: Inspection, section: Section, network: str) -> bytes:
    assert found.mixtures is not None
    parts = {"answered right": found.mixtures.right, "answered wrong": found.mixtures.wrong}
    tables = {name: _triangle(rows) for name, rows in parts.items() if rows}
    count = next(iter(tables.values())).shape[1]
    figure = blank(section, network, max(2.5, 0.3 * count + 1.2))
    both = len(tables) == 2
    spans = [(0.085, 0.325), (0.345, 0.585), (0.69, 0.93)] if both else [(0.085, 0.6)]
    shown = list(tables.items())
    if both:
        shown.append(("right minus wrong", tables["answered right"] - tables["answered wrong"]))
    for number, ((name, table), (left, right)) in enumerate(zip(shown, spans, strict=True)):
        axes = panel(figure, left, right, 0.9, 0.3)
        difference = number == 2
        names = [f"layer{i + 1}" for i in range(len(table))] if number == 0 else []
        image = heat_map(axes, table, names, source_names(count), rotate=True, difference=difference)
        axes.set_title(name, fontsize=9.5, color=INK, loc="left")
        axes.set_xlabel("source", color=SOFT, fontsize=9)
        if not number:
            axes.set_ylabel("layer that reads", color=SOFT, fontsize=9)
        if difference or number == len(tables) - 1:
            colour_bar(figure, image, "weight", 0.9, right + 0.01, top=0.3)
    return as_png(figure)


def _moves(found: Inspection, section: Section, network: str) -> bytes:
    from matplotlib import colormaps

    assert found.moves is not None
    moves = found.moves
    count = len(moves.counts)
    across = min(count, 4)
    down = ceil(count / across)
    figure = blank(section, network, down * (0.27 * count + 0.75) + 0.35)
    x = np.array([moves.edges[0], *(np.array(moves.edges[1:]) + np.array(moves.edges[:-1])) / 2, moves.edges[-1]])
    colours = colormaps["viridis"](np.linspace(0, 0.9, count))
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    total = float(figure.get_size_inches()[1])
    figure.subplots_adjust(0.06, 0.55 / total, 0.985, 1 - (HEADER + 0.3) / total, 0.1, 0.3)
    for layer, axes in enumerate(grid.flat):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=SOFT, labelsize=8.5, length=0)
        if layer >= count:
            axes.set_axis_off()
            continue
        for place in range(count):
            height = np.array([0, *moves.counts[layer][place], 0], dtype=float)
            height = 1.7 * height / max(height.max(), 1.0)
            base, front = count - 1 - place, place
            axes.fill_between(
                x, base, base + height, color=colours[place], alpha=0.85, lw=0.8, ec="white", zorder=front
            )
            mean = moves.means[layer][place]
            axes.plot([mean], [base + 0.12], marker="|", ms=7, mew=1.6, color=INK, zorder=count + 1)
        axes.axhline(count - 1 - layer, color=INK, lw=1, ls=(0, (3, 2)), zorder=count + 2)
        axes.set_ylim(-0.15, count + 0.9)
        axes.set_xlim(0, 1.03 * moves.edges[-1])
        axes.set_yticks(range(count), [str(count - 1 - i) for i in range(count)] if layer % across == 0 else [])
        axes.set_title(f"layer{layer} (mean change {moves.norms[layer]:.2g})", fontsize=9, color=INK, loc="left")
    figure.supxlabel(
        "change of the class token over the layer's mean; tick: mean, dashed: the layer's own place",
        fontsize=9,
        color=SOFT,
        y=0.14 / total,
    )
    for row in grid:
        row[0].set_ylabel("runs at place", fontsize=9, color=SOFT)
    return as_png(figure)


def _embedding(found: Inspection, section: Section, network: str) -> bytes:
    from matplotlib import colormaps

    assert found.moves is not None
    assert found.moves.embedding is not None
    one = found.moves.embedding
    figure = blank(section, network, 4.6)
    axes = panel(figure, 0.075, 0.83, 0.6)
    colours = colormaps["viridis"](np.linspace(0, 0.95, len(one.points)))
    for place, points in enumerate(one.points):
        x, y = np.array(points).T
        axes.scatter(x, y, s=22, color=colours[place], alpha=0.75, linewidths=0, label=f"place {place}")
    axes.grid(color="#e9ecef", linewidth=0.8)
    axes.set_xlabel(f"{one.method} 1", color=SOFT, fontsize=9)
    axes.set_ylabel(f"{one.method} 2", color=SOFT, fontsize=9)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, title=f"layer{one.layer} runs at"
    )
    legend.get_title().set_fontsize(9)
    return as_png(figure)


def _triangle(rows: list[list[float]]) -> np.ndarray:
    """Rows of growing length as a table, empty where a layer has no such source."""
    table = np.full((len(rows), len(rows[-1])), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _show(axes: Axes, shot: Shot, gray: bool = False) -> None:
    pixels = pixels_of(shot.png)
    if gray and pixels.ndim == 3:
        pixels = pixels.mean(2).astype(np.uint8)
    small = max(pixels.shape[:2]) <= 64
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if small else "antialiased")
    axes.set_axis_off()


def _caption(shot: Shot) -> str:
    answer = "" if shot.label == shot.answer else f", took for {_short(shot.answer, 9)}"
    return f"{_short(shot.label, 12)}{answer}\n{macs(shot.macs)}".replace("$", r"\$")


def _short(name: str, length: int = 16) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


_DRAWN: dict[str, Callable[[Inspection, Section, str], bytes]] = {
    "images": _images,
    "exits": _exits,
    "attention": _attention,
    "class_rates": _class_rates,
    "skip_patterns": _patterns,
    "layer_mixing": _mixtures,
    "layer_moves": _moves,
    "embedding": _embedding,
}
