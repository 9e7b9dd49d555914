"""Names in any script can be read in pictures, without a warning and without boxes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from search.report import glyphs
from search.report.canvas import as_png, canvas

NAMES = ["猫", "🦩 bird", "собака", "plain", "a\nb"]


def drawn(names: list[str]) -> Figure:
    """A picture with the names in its title, at its ticks and in its legend."""
    figure, axes = canvas(f"front of {names[0]}", "below it")
    axes.barh(range(len(names)), np.ones(len(names)), label=names[0])
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.legend()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_png(figure)
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def font(tmp_path: Path) -> Iterator[str]:
    """The name of an installed font that has the one letter 猫, as a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (900, 0), "cat": (900, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "One Cat", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cat.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "cat.ttf")
    glyphs._family_with.cache_clear()
    yield "One Cat"
    fontManager.ttflist[:] = before
    glyphs._family_with.cache_clear()


def test_what_no_font_has_is_written_in_latin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_family_with", lambda letter: None)
    shown = texts(drawn(NAMES))
    assert {"front of Mao", "Mao", ":flamingo: bird", "собака", "plain", "a\nb"} <= set(shown)
    assert "猫" not in "".join(shown)


def test_a_font_of_boxes_for_everything_does_not_count() -> None:
    assert glyphs._family_with("\U000e01ef") is None


def test_an_installed_font_that_has_a_letter_draws_it(font: str) -> None:
    figure = drawn(["猫", "plain"])
    assert {"front of 猫", "猫", "plain"} <= set(texts(figure))
    assert all(font in text.get_fontfamily() for text in figure.findobj(Text) if text.get_text())


def test_names_that_matplotlib_can_draw_are_left_alone() -> None:
    figure = drawn(["собака", "été", "a − b"])
    assert {"front of собака", "été", "a − b"} <= set(texts(figure))
    assert all(text.get_fontfamily() == ["sans-serif"] for text in figure.findobj(Text))
