"""Pieces of the page."""

from __future__ import annotations

import re

import pytest

from search.inspection.colours import CIVIDIS, RED_BLUE
from search.inspection.markup import Section, difference_cell, share_cell
from search.inspection.picture import Headline


def looks(cell: str) -> tuple[str, str, str]:
    """Background, colour of the text, and text of a cell."""
    match = re.search(r"background:(\S+);color:(\S+)\">(.*)</td>", cell)
    assert match is not None
    return match[1], match[2], match[3]


def test_a_share_is_coloured_and_written_in_percent() -> None:
    assert looks(share_cell(0.0, "")) == (CIVIDIS[0], "#fff", "0")
    assert looks(share_cell(1.0, "")) == (CIVIDIS[-1], "#1f2933", "100")
    assert looks(share_cell(0.5, "", written=False))[2] == ""


@pytest.mark.parametrize(
    ("value", "colour", "text"),
    [(-0.4, RED_BLUE[0], "-40"), (0.4, RED_BLUE[-1], "+40"), (0.001, "#f7f7f7", "0")],
)
def test_a_difference_is_coloured_by_how_far_it_reaches_and_written_with_its_sign(
    value: float, colour: str, text: str
) -> None:
    background, _, written = looks(difference_cell(value, "", 0.4))
    assert written == text
    assert all(
        abs(int(background[i : i + 2], 16) - int(colour[i : i + 2], 16)) <= 1 for i in (1, 3, 5)
    )


def test_names_cannot_break_out_of_a_hint_or_a_headline() -> None:
    assert 'data-tip="&quot;&lt;b&gt;"' in share_cell(0.5, '"<b>')
    html = Section("name", "link", Headline("<i>", "&"), "<b>kept</b>").html()
    assert (
        html
        == '<section id="name"><h2>&lt;i&gt;</h2><p>&amp;</p><div class="content"><b>kept</b></div></section>'
    )
