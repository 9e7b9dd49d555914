"""Where commands print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def terminal(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal that shows names and messages as they are, brackets too.

    With `stderr`, what is said on the way does not mix with what a program reads.
    """
    from rich.console import Console

    # a pipe has no width of its own; COLUMNS says one for both
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 140
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def steps(console: Console) -> Callable[[str], None]:
    """Prints a step of a command while it works, dimmed."""
    return lambda line: console.print(f"  {line}", style="dim")


def notes(console: Console) -> Callable[[str], None]:
    """Prints what a person should know, a line each, as long as it is."""
    return lambda line: console.print(line, soft_wrap=True)


def print_lines(console: Console, lines: Iterable[str], *, wrap: bool = True) -> None:
    for line in lines:
        console.print(line, soft_wrap=not wrap)
