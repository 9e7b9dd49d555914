"""Texts of a picture in letters that can be drawn: from another installed font, or in Latin."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NORMAL = 400  # weight of a font
BOXES = "Last Resort"  # a font of boxes for every letter


def make_drawable(figure: Figure) -> None:
    """Give the figure's texts fonts that have their letters; what none has is transliterated: 猫 becomes Mao."""
    from matplotlib.text import Text

    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    for axis in axes:
        axis.get_ticklabels()  # which makes the texts
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    missing = set("".join(text.get_text() for text in texts)) - _letters_of_default() - {"\n"}
    if not missing:
        return
    # that a font has no bold letters is no news: those that it has are drawn
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    families = _families(missing)
    drawable = str.maketrans({letter: _latin(letter) for letter in missing - set(families)})
    for axis in axes:
        _relabel(axis, drawable)
    for text in texts:
        text.set_text(text.get_text().translate(drawable))
        text.set_fontfamily([*text.get_fontfamily(), *sorted(set(families.values()))])


def _relabel(axis: Axis, drawable: dict[int, str]) -> None:
    """Names at ticks come from the axis each time that it is drawn."""
    names = [label.get_text() for label in axis.get_ticklabels()]
    shown = [name.translate(drawable) for name in names]
    if shown != names:
        axis.set_ticks(axis.get_ticklocs(), shown)


def _latin(letter: str) -> str:
    from anyascii import anyascii

    return anyascii(letter) or "?"


def _families(letters: Iterable[str]) -> dict[str, str]:
    """By letter the name of an installed font that has it, where there is one."""
    found = {letter: _family_with(letter) for letter in letters}
    return {letter: family for letter, family in found.items() if family}


@cache
def _family_with(letter: str) -> str | None:
    from matplotlib.font_manager import fontManager

    plain = sorted(
        fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != NORMAL)
    )
    names = (font.name for font in plain if ord(letter) in _letters(font.fname))
    return next((name for name in names if not name.startswith(BOXES)), None)


@cache
def _letters_of_default() -> frozenset[str]:
    """What both weights of matplotlib's own font have."""
    from matplotlib.font_manager import FontProperties, findfont

    files = {findfont(FontProperties(weight=weight)) for weight in ("normal", "bold")}
    return frozenset(map(chr, frozenset.intersection(*map(_letters, files))))


@cache
def _letters(file: str) -> frozenset[int]:
    """The characters of a font; none of one that cannot be drawn with, such as of coloured bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
