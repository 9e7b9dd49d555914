"""Pieces of HTML that sections of the page share: cells with colours, legends, hints under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from search.inspection.colours import CIVIDIS, RED_BLUE, colour_at, gradient
from search.inspection.picture import Headline


@dataclass(frozen=True)
class Section:
    """One section of the page: its name, the words of the link to it, its headline, and HTML below that."""

    name: str
    link: str
    headline: Headline
    content: str

    def html(self) -> str:
        return (
            f'<section id="{self.name}"><h2>{escape(self.headline.title)}</h2><p>{escape(self.headline.about)}</p>'
            f'<div class="content">{self.content}</div></section>'
        )


def tip(text: str) -> str:
    """The attribute with the hint that appears under the pointer."""
    return f'data-tip="{escape(text)}"'


def share_cell(share: float, hint: str, *, written: bool = True) -> str:
    """A table's cell coloured by a share from 0 to 1, its percentage written in."""
    text = f"{abs(round(100 * share))}" if written else ""
    return _cell(share, hint, colour_at(CIVIDIS, share), text)


def difference_cell(value: float, hint: str, reach: float) -> str:
    """A table's cell coloured by a difference from -reach to reach, its percentage written in with its sign."""
    percentage = round(100 * value)
    text = f"{percentage:+d}" if percentage else "0"
    return _cell(value, hint, colour_at(RED_BLUE, (value / reach + 1) / 2), text)


def _cell(value: float, hint: str, colour: str, text: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    ink = "#fff" if 0.3 * red + 0.59 * green + 0.11 * blue < 135 else "#1f2933"
    return f'<td class=c {tip(hint)} data-v="{value:.4f}" style="background:{colour};color:{ink}">{text}</td>'


def tilted_head(names: Sequence[str]) -> str:
    """The start of a table's head that has room for these names aslant."""
    return f'<thead class=tilt style="--head:{14 + round(4.8 * max(map(len, names)))}px">'


def key(name: str, colour: str) -> str:
    """One entry of a legend."""
    return f'<span class=key><i style="background:{colour}"></i>{escape(name)}</span>'


def ramp(scale: Sequence[str], low: str, high: str) -> str:
    """The legend of a scale of colours."""
    return f'{low}<span class=ramp style="background:{gradient(scale)}"></span>{high}'
