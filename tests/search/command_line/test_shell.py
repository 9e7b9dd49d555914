"""What a shell gets: completions, the version, and tables as wide as it says."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from click.testing import CliRunner

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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_each_shell_prints_what_it_reads(shell: str) -> None:
    kind = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    begun = {"_DYNAFRONT_COMPLETE": f"{shell}_source"}
    printed = CliRunner().invoke(main, prog_name="dynafront", env=begun).output
    assert printed.strip() == kind(main, {}, "dynafront", "_DYNAFRONT_COMPLETE").source().strip()
    assert f"_DYNAFRONT_COMPLETE={shell}_complete" in printed


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("zsh", {"COMP_WORDS": "dynafront sta", "COMP_CWORD": "1"}, "plain\nstatus\n"),
        ("fish", {"COMP_WORDS": "dynafront sta", "COMP_CWORD": "sta"}, "plain"),
    ],
)
def test_a_shell_that_asks_is_answered(shell: str, words: dict[str, str], expected: str) -> None:
    asked = {"_DYNAFRONT_COMPLETE": f"{shell}_complete", **words}
    printed = CliRunner().invoke(main, prog_name="dynafront", env=asked).output
    assert "status" in printed
    assert expected in printed


def test_the_version_is_that_of_the_package() -> None:
    assert version("dynafront") in dynafront("--version").output


def test_a_pipe_has_tables_of_140_characters_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(os.environ, "COLUMNS", raising=False)
    assert terminal().width == 140
    monkeypatch.setenv("COLUMNS", "90")
    assert terminal().width == 90
