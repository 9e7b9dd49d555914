"""dynafront finalists: how much of a front was luck."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_study, read_settings
from search.command_line.terminal import as_json, print_json, terminal


@click.command("finalists")
@click.argument("name")
@as_json
@click.pass_obj
def show_finalists(config: Path | None, name: str, as_json: bool) -> None:
    """Show how much of study NAME's front was luck.

    `dynafront search FILE --finalists N` trains them. At the cost of each of their points on the front: the accuracy
    that the search saw, the mean over the new seeds with its 95 % t-interval, and whether another finalist is
    significantly better (Welch's t-test, one-sided, p < 0.05, not corrected for the number of pairs). All of it is on
    the validation images that the search chose on; the test images are left for export.
    """
    from search.commands.finalists import show
    from search.front.finalists import report

    finalists = report(*open_study(read_settings(config), name))
    if as_json:
        print_json(finalists)
    else:
        show(terminal(), finalists)
