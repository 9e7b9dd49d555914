"""Which exit answers which images, and how many of them are right.

Shapes: N images, K classes, E exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from search.inspection.by_class import class_rows
from search.inspection.colours import VIRIDIS, colours
from search.inspection.figure import legend_below, panel, short
from search.inspection.forward_pass import ForwardPass
from search.inspection.markup import key, tip
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.amounts import macs, percent
from search.report.canvas import BASELINE, INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class ExitUse:
    """One exit: share of images that it answers, its accuracy on them, on all images, and MACs of leaving there."""

    name: str
    share: float
    accuracy: float | None  # None where it answers no image
    accuracy_all: float
    macs: float


@dataclass(frozen=True)
class Exits:
    """Use of the exits in order of depth; `by_class` are shares by class (rows, in `classes`) and exit."""

    exits: list[ExitUse]
    classes: list[str]
    by_class: list[list[float]]


def measure(subject: Subject) -> Exits | None:
    """None where there are no exits."""
    seen = subject.seen
    exit_N = seen.exit_N
    if exit_N is None:
        return None
    deepest = len(seen.exit_answers) - 1
    names = [*(f"exit{number}" for number in range(deepest)), "deepest"]
    exits = [_use(seen, number, name, exit_N == number) for number, name in enumerate(names)]
    if bool((exit_N > deepest).any()):
        exits.append(_ensemble_use(seen, exit_N > deepest, exits[-1]))

    def shares(of_class_N: Tensor) -> Tensor:
        count_E = torch.bincount(exit_N[of_class_N], minlength=len(exits)).double()
        return count_E / count_E.sum()

    depth_E = torch.arange(len(exits), dtype=torch.float64)
    table = class_rows(
        seen.label_N, subject.data.classes, row=shares, rank=lambda share_KE: share_KE @ depth_E
    )
    return Exits(exits, table.classes, table.rows)


def _use(seen: ForwardPass, number: int, name: str, here_N: Tensor) -> ExitUse:
    answers_any = bool(here_N.any())
    accuracy_all = float((seen.exit_answers[number] == seen.label_N).double().mean())
    macs_N = seen.exit_macs[number]
    return ExitUse(
        name,
        float(here_N.double().mean()),
        float(seen.correct_N[here_N].double().mean()) if answers_any else None,
        accuracy_all,
        float(macs_N[here_N].mean() if answers_any else macs_N.max()),
    )


def _ensemble_use(seen: ForwardPass, here_N: Tensor, deepest: ExitUse) -> ExitUse:
    """The ensemble answers the images that no exit answers; its accuracy on the others is not known."""
    share, accuracy = float(here_N.double().mean()), float(seen.correct_N[here_N].double().mean())
    return ExitUse(ENSEMBLE, share, accuracy, deepest.accuracy_all, deepest.macs)


def headline(use: Exits, images: int) -> Headline:
    early = sum(one.share for one in use.exits if one.name.startswith("exit"))
    return Headline(
        f"{percent(early, 0)} of the images are answered early",
        f"share and accuracy by exit over {images:,} images; right, where images of each class are answered",
    )


def plot(use: Exits, blank: Blank) -> Figure:
    from matplotlib import colormaps

    figure = blank(max(3.4, 0.19 * len(use.classes) + 1.0))
    shades = colormaps["viridis"](np.linspace(0.15, 0.9, len(use.exits)))
    _plot_exits(panel(figure, 0.075, 0.5, 0.95), use.exits, shades)
    _plot_classes(panel(figure, 0.63, 0.965, 0.95), use, shades)
    return figure


def _plot_exits(axes: Axes, exits: Sequence[ExitUse], shades: np.ndarray) -> None:
    from matplotlib.ticker import PercentFormatter

    x = np.arange(len(exits))
    axes.bar(x, [one.share for one in exits], width=0.62, color=shades)
    for i, one in enumerate(exits):
        axes.text(
            i, one.share + 0.015, f"{100 * one.share:.0f} %", ha="center", fontsize=9, color=INK
        )
    own = [(i, one.accuracy) for i, one in enumerate(exits) if one.accuracy is not None]
    filled: dict[str, Any] = {"marker": "D", "ms": 7, "color": BASELINE, "mec": "white"}
    axes.plot(*zip(*own, strict=True), ls="none", **filled, label="right, of those it answers")
    all_images = [(i, one.accuracy_all) for i, one in enumerate(exits) if one.name != ENSEMBLE]
    hollow: dict[str, Any] = {"marker": "o", "ms": 7, "mfc": "none", "mec": BASELINE, "mew": 1.4}
    axes.plot(
        *zip(*all_images, strict=True), ls="none", **hollow, label="right, were all answered there"
    )
    axes.bar([0], [0], color=shades[0], label="share of images")
    axes.set_xticks(x, [f"{one.name}\n{macs(one.macs)}" for one in exits])
    axes.set_ylim(0, 1.08)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    axes.set_ylabel("share of images, accuracy", color=SOFT, fontsize=9)
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    legend_below(axes, 3)


def _plot_classes(axes: Axes, use: Exits, shades: np.ndarray) -> None:
    from matplotlib.ticker import PercentFormatter

    left = np.zeros(len(use.classes))
    y = np.arange(len(use.classes))
    for number, one in enumerate(use.exits):
        share = np.array([row[number] for row in use.by_class])
        axes.barh(y, share, left=left, height=0.78, color=shades[number], label=one.name)
        left += share
    axes.set_yticks(y, [short(name) for name in use.classes], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    axes.set_xlabel("share of the class's images", color=SOFT, fontsize=9)
    axes.set_ylabel("class, the easiest first", color=SOFT, fontsize=9)
    legend_below(axes, min(5, len(use.exits)))


def content(use: Exits) -> str:
    shades = colours(VIRIDIS, len(use.exits))
    rows = "".join(_exit_row(one, shade) for one, shade in zip(use.exits, shades, strict=True))
    table = f"<table><tr><th>exit<th>leaving there<th>0 to 100 %<th>share</tr>{rows}</table>"
    legend = (
        '<div class=keys><span class=key><i style="background:var(--blue)"></i>share of images</span>'
        "<span class=key><i class=dot></i>right, of those it answers</span>"
        "<span class=key><i class=ring></i>right, were all answered there</span></div>"
    )
    keys = "".join(key(one.name, shade) for one, shade in zip(use.exits, shades, strict=True))
    names = [one.name for one in use.exits]
    classes = "".join(
        f"<tr><th>{escape(name)}</th><td><div class=stack>{_stack(name, row, names, shades)}</div></td></tr>"
        for name, row in zip(use.classes, use.by_class, strict=True)
    )
    by_class = f"<table><tr><th>class<th>share of its images, by exit</tr>{classes}</table><div class=keys>{keys}</div>"
    return f"<div>{table}{legend}</div><div>{by_class}</div>"


def _exit_row(one: ExitUse, shade: str) -> str:
    own, dot = "answers no image", ""
    if one.accuracy is not None:
        own = f"{percent(one.accuracy)} of those right"
        dot = f'<span class="dot" style="left:{100 * one.accuracy:.1f}%"></span>'
    hint = f"{one.name}: {percent(one.share)} of the images, {own}; "
    hint += f"{percent(one.accuracy_all)} right were all answered there"
    return (
        f"<tr {tip(hint)}><th>{one.name}</th><td class=n>{macs(one.macs)}</td><td><div class=track>"
        f'<span class=bar style="width:{100 * one.share:.1f}%;background:{shade}"></span>{dot}'
        f'<span class="ring" style="left:{100 * one.accuracy_all:.1f}%"></span></div></td>'
        f"<td class=n>{percent(one.share)}</td></tr>"
    )


def _stack(name: str, row: Sequence[float], exits: Sequence[str], shades: Sequence[str]) -> str:
    return "".join(
        f"<span {tip(f'class {name}: {percent(share)} at {exit}')} "
        f'style="width:{100 * share:.2f}%;background:{shade}"></span>'
        for share, exit, shade in zip(row, exits, shades, strict=True)
        if share
    )


PICTURE = Picture(
    name="exits",
    link="exits",
    key="exits",
    part=Exits,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
