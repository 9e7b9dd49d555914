"""The easiest and hardest images: those that took the least and the most MACs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.inspection.figure import below, share_of_height
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.shots import Shot, caption, caption_colour, shot_html, shots, show
from search.inspection.subject import Subject
from search.report.amounts import macs
from search.report.canvas import FRONT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Extremes:
    """The images that took the least and the most MACs."""

    cheapest: list[Shot]
    dearest: list[Shot]

    def rows(self) -> dict[str, list[Shot]]:
        return {"least compute": self.cheapest, "most compute": self.dearest}


def measure(subject: Subject) -> Extremes | None:
    """None where every image takes the same."""
    macs_N = subject.seen.macs_N
    order = macs_N.argsort(stable=True).tolist()
    if macs_N[order[0]] == macs_N[order[-1]]:
        return None
    count = min(subject.effort.shown, len(order) // 2)
    return Extremes(shots(subject, order[:count]), shots(subject, order[: -count - 1 : -1]))


def headline(extremes: Extremes, images: int) -> Headline:
    low, high = extremes.cheapest[0].macs, extremes.dearest[0].macs
    return Headline(
        f"The hardest images take {high / max(low, 1.0):.1f} times the compute of the easiest",
        f"validation images from {macs(low)} to {macs(high)}; below, the class; in red, a wrong answer",
    )


def plot(extremes: Extremes, blank: Blank) -> Figure:
    figure = blank(3.7)
    for number, (name, row) in enumerate(extremes.rows().items()):
        width = 0.96 / len(row)
        figure.text(
            0.02,
            below(figure, 0.2 + 1.85 * number),
            name,
            fontsize=10,
            fontweight="bold",
            color=FRONT,
        )
        for place, shot in enumerate(row):
            left, bottom = 0.02 + place * width, below(figure, 1.4 + 1.85 * number)
            axes = figure.add_axes((left, bottom, width * 0.94, share_of_height(figure, 1.1)))
            show(axes, shot)
            axes.set_title(
                caption(shot), fontsize=8.5, color=caption_colour(shot), y=-0.34, parse_math=False
            )
    return figure


def content(extremes: Extremes) -> str:
    return "".join(
        f'<div class="wide"><h3>{name}</h3><div class="shots">{"".join(map(shot_html, row))}</div></div>'
        for name, row in extremes.rows().items()
    )


PICTURE = Picture(
    name="images",
    link="easiest and hardest images",
    key="extremes",
    part=Extremes,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
