"""dynafront status: how far studies are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.command_line.opening import kept_files, open_store, open_study, read_settings
from search.command_line.terminal import as_json, print_json

if TYPE_CHECKING:
    from storage.settings import Settings


@click.command("status")
@click.argument("name", required=False)
@as_json
@click.option(
    "--trace",
    metavar="N",
    help="The stored tracebacks of trial N instead, of every attempt; baseline-2 and finalist-1 name other trainings.",
)
@click.pass_obj
def show_status(config: Path | None, name: str | None, as_json: bool, trace: str | None) -> None:
    """Show how far studies are, and what failed and why.

    Trials by state, time spent and left, points on the front, the size of the checkpoints, the last failures.
    """
    from search.commands.disk_use import disk_use
    from search.commands.status import as_text, statuses

    settings = read_settings(config)
    if trace is not None:
        _show_trace(settings, name, trace, as_json)
        return
    studies = statuses(open_store(settings), name, settings.folder)
    files = kept_files(settings)
    disk = {one["study"]: disk_use(files, one["study"]) for one in studies}
    if as_json:
        print_json([one | disk[one["study"]].as_dict() for one in studies])
        return
    if not studies:
        click.echo("No study yet. Launch one: dynafront search studies/digits.yml")
    for study in studies:
        click.echo(as_text(study, disk[study["study"]].text()))


def _show_trace(settings: Settings, name: str | None, training: str, as_json: bool) -> None:
    from search.commands import trace

    if name is None:
        raise ValueError(
            f"--trace {training}: name the study: dynafront status NAME --trace {training}"
        )
    failures = trace.attempts(*open_study(settings, name), trace.training_of(training))
    if as_json:
        print_json(trace.as_dicts(failures))
    else:
        click.echo(trace.as_text(failures))
