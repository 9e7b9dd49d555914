"""Which layers run together: the most frequent patterns of open layer gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from search.inspection.figure import SLANT, panel
from search.inspection.markup import key, tilted_head, tip
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.objectives import macs_text
from search.report.amounts import macs, percent
from search.report.canvas import BASELINE, FRONT, INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PATTERNS = 12  # the most frequent ones
EMPTY = "#eef1f4"


@dataclass(frozen=True)
class Pattern:
    """Which layers were run, a 1 or 0 each; share of images, their accuracy and mean MACs."""

    open: str
    share: float
    accuracy: float
    macs: float


@dataclass(frozen=True)
class Patterns:
    """The most frequent patterns of layer gates, and how many different ones there were."""

    gates: list[str]
    rows: list[Pattern]
    distinct: int


def measure(subject: Subject) -> Patterns | None:
    """None where no gate is one of a whole layer."""
    seen = subject.seen
    if not seen.layers:
        return None
    open_NG = torch.stack([seen.gates[name] for name in seen.layers], 1) > 0
    patterns = ["".join("01"[gate] for gate in row) for row in open_NG.tolist()]
    counts, rows = Counter(patterns), []
    for pattern, count in counts.most_common(PATTERNS):
        here_N = torch.tensor([other == pattern for other in patterns])
        accuracy = float(seen.correct_N[here_N].double().mean())
        rows.append(
            Pattern(pattern, count / len(patterns), accuracy, float(seen.macs_N[here_N].mean()))
        )
    return Patterns(list(seen.layers), rows, len(counts))


def headline(patterns: Patterns, images: int) -> Headline:
    first = patterns.rows[0]
    ran = f"{first.open.count('1')} of {len(first.open)} gated layers"
    if patterns.distinct == 1:
        return Headline(
            f"All images run the same {ran}", f"open layer gates over {images:,} images"
        )
    count = f"the {len(patterns.rows)} most frequent of {patterns.distinct} patterns"
    return Headline(
        f"{percent(first.share, 0)} of the images run the same {ran}",
        f"{count} of open layer gates over {images:,} images",
    )


def plot(patterns: Patterns, blank: Blank) -> Figure:
    rows, gates = patterns.rows, patterns.gates
    slant: dict[str, Any] = SLANT if len(gates) > 7 else {}
    height, bottom = max(len(rows), 4), 0.8 if slant else 0.35
    figure = blank(0.3 * height + bottom + 0.35)
    layers = panel(figure, 0.04, 0.5, bottom, 0.35)
    _plot_layers(layers, rows, gates, slant)
    shares = panel(figure, 0.53, 0.75, bottom, 0.35)
    _plot_shares(shares, rows)
    accuracies = panel(figure, 0.77, 0.9, bottom, 0.35)
    _plot_accuracies(accuracies, rows)
    for axes in (layers, shares, accuracies):
        axes.set_yticks([])
        axes.set_ylim(height - 0.5, -0.5)
    return figure


def _plot_layers(
    axes: Axes, rows: Sequence[Pattern], gates: Sequence[str], slant: dict[str, Any]
) -> None:
    for i, row in enumerate(rows):
        for j, gate in enumerate(row.open):
            axes.barh(i, 0.86, left=j - 0.43, height=0.74, color=FRONT if gate == "1" else EMPTY)
    axes.set_xlim(-0.6, len(gates) - 0.4)
    shown = range(0, len(gates), ceil(len(gates) / 20))
    axes.set_xticks(shown, [gates[i] for i in shown], **slant)
    axes.set_title("layers that run (blue) and are skipped", fontsize=9, color=SOFT, loc="left")


def _plot_shares(axes: Axes, rows: Sequence[Pattern]) -> None:
    axes.barh(np.arange(len(rows)), [row.share for row in rows], height=0.74, color=FRONT)
    for i, row in enumerate(rows):
        axes.text(row.share, i, f" {100 * row.share:.1f} %", va="center", fontsize=8.5, color=INK)
    axes.set_xlim(0, max(row.share for row in rows) * 1.35)
    axes.set_xticks([])
    axes.set_title("share of images", fontsize=9, color=SOFT, loc="left")


def _plot_accuracies(axes: Axes, rows: Sequence[Pattern]) -> None:
    """Accuracies, and right of them MACs as numbers."""
    axes.plot(
        [row.accuracy for row in rows],
        np.arange(len(rows)),
        ls="none",
        marker="D",
        ms=6,
        color=BASELINE,
    )
    axes.set_xlim(-0.05, 1.05)
    axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
    axes.grid(axis="x", color="#e9ecef", linewidth=0.8)
    axes.set_title("accuracy", fontsize=9, color=SOFT, loc="left")
    for i, row in enumerate(rows):
        axes.text(1.14, i, macs_text(row.macs), va="center", fontsize=8.5, color=INK, clip_on=False)
    above: dict[str, Any] = {
        "xycoords": "axes fraction",
        "xytext": (0, 6),
        "textcoords": "offset points",
    }
    axes.annotate("MACs", (1.09, 1), **above, fontsize=9, color=SOFT)


def content(patterns: Patterns) -> str:
    gates, largest = patterns.gates, max(row.share for row in patterns.rows)
    rows = "".join(_row(row, gates, largest) for row in patterns.rows)
    head = "".join(f"<th><span>{escape(gate)}</span></th>" for gate in gates)
    head += "<th data-sort class='by down'>share of images</th><th data-sort>accuracy</th><th data-sort>mean cost</th>"
    keys = key("runs", "var(--blue)") + key("is skipped", "var(--empty)")
    table = f"<table>{tilted_head(gates)}<tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div>{table}<div class=keys>{keys}</div></div>"


def _row(row: Pattern, gates: Sequence[str], largest: float) -> str:
    cells = "".join(
        f"<td class=c {tip(gate + (' runs' if one == '1' else ' is skipped'))} "
        f'style="background:{"var(--blue)" if one == "1" else "var(--empty)"}"></td>'
        for gate, one in zip(gates, row.open, strict=True)
    )
    bar = f'<span class=bar style="width:{170 * row.share / largest:.0f}px"></span> {percent(row.share)}'
    return (
        f'<tr>{cells}<td data-v="{row.share}">{bar}</td>'
        f'<td class=n data-v="{row.accuracy}">{percent(row.accuracy)}</td>'
        f'<td class=n data-v="{row.macs}">{macs(row.macs)}</td></tr>'
    )


PICTURE = Picture(
    name="skip_patterns",
    link="skip patterns",
    key="patterns",
    part=Patterns,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
