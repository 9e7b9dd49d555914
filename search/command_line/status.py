"""dynafront status: how far studies are."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_store, read_settings
from search.command_line.terminal import as_json, print_json


@click.command("status")
@click.argument("name", required=False)
@as_json
@click.pass_obj
def show_status(config: Path | None, name: str | None, as_json: bool) -> None:
    """How far studies are: trials by state, time spent, front, what failed and why."""
    from search.commands.status import as_text, statuses

    studies = statuses(open_store(read_settings(config)), name)
    if as_json:
        print_json(studies)
        return
    if not studies:
        click.echo("No study yet. Launch one: dynafront search studies/digits.yml")
    for study in studies:
        click.echo(as_text(study))
