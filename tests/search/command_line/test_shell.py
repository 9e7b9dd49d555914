"""What a shell gets: completions, the version, and tables as wide as it says."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest
from click.shell_completion import BashComplete

from search.cli import main
from search.command_line.terminal import terminal
from tests.search.conftest import dynafront


@pytest.mark.parametrize(
    ("before", "begun", "expected"),
    [
        ([], "sta", {"status"}),
        (["export"], "--min", {"--min-accuracy"}),
        (["export", "--pick"], "e", {"efficient", "equal"}),
        (["search", "--engine"], "", {"local", "ray"}),
    ],
)
def test_commands_flags_and_their_values_are_completed(
    before: list[str], begun: str, expected: set[str]
) -> None:
    completed = BashComplete(main, {}, "dynafront", "_DYNAFRONT_COMPLETE")
    assert {one.value for one in completed.get_completions(before, begun)} == expected


def test_the_version_is_that_of_the_package() -> None:
    assert version("dynafront") in dynafront("--version").output


def test_a_pipe_has_tables_of_140_characters_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(os.environ, "COLUMNS", raising=False)
    assert terminal().width == 140
    monkeypatch.setenv("COLUMNS", "90")
    assert terminal().width == 90
