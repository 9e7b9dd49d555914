"""Images that the network answers wrong, those that took most compute first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.inspection.figure import below, share_of_height
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.shots import Shot, caption, caption_colour, shot_html, shots, show
from search.inspection.subject import Subject
from search.report.amounts import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Mistakes:
    """Some of the images that are answered wrong, and which share of all those are."""

    share: float
    wrong: list[Shot]


def measure(subject: Subject) -> Mistakes | None:
    """None where every image is answered rightly."""
    seen = subject.seen
    wrong = (~seen.correct_N).nonzero()[:, 0]
    if not len(wrong):
        return None
    order = wrong[seen.macs_N[wrong].argsort(stable=True, descending=True)].tolist()
    return Mistakes(len(order) / len(seen.label_N), shots(subject, order[: subject.effort.shown]))


def headline(found: Mistakes, images: int) -> Headline:
    return Headline(
        f"{percent(found.share)} of the images are answered wrong",
        f"some of them, of {images:,} validation images; below, the class and what it was taken for",
    )


def plot(found: Mistakes, blank: Blank) -> Figure:
    figure = blank(1.75)
    width = 0.96 / max(4, len(found.wrong))
    for place, shot in enumerate(found.wrong):
        left, bottom = 0.02 + place * width, below(figure, 1.2)
        axes = figure.add_axes((left, bottom, width * 0.94, share_of_height(figure, 1.1)))
        show(axes, shot)
        axes.set_title(
            caption(shot), fontsize=8.5, color=caption_colour(shot), y=-0.34, parse_math=False
        )
    return figure


def content(found: Mistakes) -> str:
    return (
        f'<div class="wide"><div class="shots">{"".join(map(shot_html, found.wrong))}</div></div>'
    )


PICTURE = Picture(
    name="mistakes",
    link="wrong answers",
    key="mistakes",
    part=Mistakes,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
