"""dynafront list: all studies."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import kept_files, open_store, read_settings
from search.command_line.terminal import as_json, print_json, terminal


@click.command("list")
@as_json
@click.pass_obj
def list_studies(config: Path | None, as_json: bool) -> None:
    """List all studies: how far, how good, how large.

    State, trials that have ended of those in the budget, the best validation accuracy, points on the front, the size of
    the checkpoints, and when something last changed.
    """
    from search.commands.studies import print_studies, studies

    settings = read_settings(config)
    found = studies(open_store(settings), settings.folder, kept_files(settings))
    if as_json:
        print_json(found)
    elif found:
        print_studies(terminal(), found)
    else:
        click.echo("No study yet. Launch one: dynafront search studies/digits.yml")
