"""Which share of the images takes how much compute, and how many of them are right.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from search.inspection.colours import VIRIDIS, colours
from search.inspection.figure import panel
from search.inspection.markup import tip
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.amounts import macs, percent
from search.report.canvas import BASELINE, FRONT, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12  # bars


@dataclass(frozen=True)
class CostShare:
    """Images that take from `low` to `high` MACs: their share of all, and the share of them that is right."""

    low: float
    high: float
    share: float
    accuracy: float


@dataclass(frozen=True)
class CostShares:
    """The cheapest images first; half of the images take at most `half` MACs, one in ten `tenth` or more."""

    shares: list[CostShare]
    half: float
    tenth: float


def measure(subject: Subject) -> CostShares | None:
    """None where every image takes the same."""
    macs_N, correct_N = subject.seen.macs_N.double(), subject.seen.correct_N.double()
    values = macs_N.unique()
    if len(values) < 2:
        return None
    shares = []
    for low, high, last in _ranges(values):
        own_N = (macs_N >= low) & ((macs_N <= high) if last else (macs_N < high))
        if bool(own_N.any()):
            own, right = macs_N[own_N], float(correct_N[own_N].mean())
            share = float(own_N.double().mean())
            shares.append(CostShare(float(own.min()), float(own.max()), share, right))
    return CostShares(shares, float(macs_N.median()), float(macs_N.quantile(0.9)))


def _ranges(values: torch.Tensor) -> Iterator[tuple[float, float, bool]]:
    """(low, high, whether high belongs to it): one a value where these are few, else of equal width."""
    if len(values) <= MOST:
        yield from ((float(value), float(value), True) for value in values)
        return
    edges = torch.linspace(float(values[0]), float(values[-1]), MOST + 1).double().tolist()
    edges[0], edges[-1] = float(values[0]), float(values[-1])
    for place in range(MOST):
        yield edges[place], edges[place + 1], place == MOST - 1


def headline(found: CostShares, images: int) -> Headline:
    low, high = found.shares[0].low, found.shares[-1].high
    title = f"Half of the images take at most {macs(found.half)}, one in ten {macs(found.tenth)} or more"
    if found.half == found.tenth:
        title = f"Most images take {macs(found.half)}, single ones from {macs(low)} to {macs(high)}"
    return Headline(
        title,
        f"share of {images:,} validation images by the MACs that they take; diamonds: right, of those",
    )


def plot(found: CostShares, blank: Blank) -> Figure:
    from matplotlib.ticker import PercentFormatter

    figure = blank(3.2)
    axes = panel(figure, 0.075, 0.965, 0.75)
    x = range(len(found.shares))
    axes.bar(x, [one.share for one in found.shares], width=0.7, color=FRONT)
    right = [one.accuracy for one in found.shares]
    axes.plot(x, right, ls="none", marker="D", ms=7, color=BASELINE, mec="white")
    axes.set_xticks(x, [_range_text(one, "\n") for one in found.shares], fontsize=7.5)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    axes.set_ylabel("share of images, accuracy", color=SOFT, fontsize=9)
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    return figure


def content(found: CostShares) -> str:
    shades = colours(VIRIDIS, len(found.shares))
    rows = "".join(_row(one, shade) for one, shade in zip(found.shares, shades, strict=True))
    return f"<table><tr><th>an image takes<th>0 to 100 % of the images<th>share<th>right</tr>{rows}</table>"


def _row(one: CostShare, shade: str) -> str:
    hint = f"{percent(one.share)} of the images take {_range_text(one)}; {percent(one.accuracy)} of those right"
    return (
        f"<tr {tip(hint)}><th>{_range_text(one)}</th><td><div class=track>"
        f'<span class=bar style="width:{100 * one.share:.1f}%;background:{shade}"></span></div></td>'
        f"<td class=n>{percent(one.share)}</td><td class=n>{percent(one.accuracy)}</td></tr>"
    )


def _range_text(one: CostShare, between: str = " ") -> str:
    low, high = macs(one.low), macs(one.high)
    return high if low == high else f"{low.removesuffix(' MACs')} to{between}{high}"


PICTURE = Picture(
    name="cost_shares",
    link="images by compute",
    key="cost_shares",
    part=CostShares,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
