"""dynafront sync: MLflow in line with the study's own tables."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import kept_files, open_store, open_study, read_settings
from search.command_line.terminal import steps, terminal


@click.command()
@click.argument("name", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Log everything again, not only what is missing."
)
@click.pass_obj
def sync(config: Path | None, name: str | None, everything: bool) -> None:
    """Bring MLflow up to date from the study's own tables, and the store of checkpoints from this machine's files.

    Needed after MLflow or the store was away, or when it is a new one.
    """
    settings = read_settings(config)
    store = open_store(settings)
    records = [open_study(settings, name)[1]] if name else store.studies()
    click.echo("  loading MLflow")  # a mistyped name is answered without
    from search.commands.front_pictures import show_front_pictures
    from search.run.missing_files import put_missing
    from search.run.view import sync_study

    files = kept_files(settings)
    for record in records:
        if put := put_missing(files, record.name, click.echo):
            click.echo(f"{record.name}: {put} file{'s' * (put != 1)} put into {settings.store}")
        count = sync_study(store, settings, record, everything=everything)
        click.echo(
            f"{record.name}: {count} trial{'s' * (count != 1)} brought to MLflow, front drawn"
        )
        show_front_pictures(store, settings, store.study(record.name), steps(terminal()))
