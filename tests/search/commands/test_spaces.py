"""The search space as a table fits the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.commands.spaces import print_table
from spaces.contract.declarations import declaration


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_dimension_is_named_in_full_and_no_word_is_broken(width: int) -> None:
    written = io.StringIO()
    print_table(Console(file=written, width=width, color_system=None), "gated_resnet")
    text = written.getvalue()
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    for d in declaration("gated_resnet").space:
        assert d.name in words
        assert set(d.doc.split()) <= words
    assert len(text.splitlines()) < 6 * len(declaration("gated_resnet").space)
