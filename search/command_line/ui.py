"""dynafront ui: the front in the MLflow UI."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_store, open_study, read_settings


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def ui(config: Path | None, name: str | None) -> None:
    """Start the MLflow UI and print the address of the front.

    It runs on this machine until Ctrl-C. Where the settings name an MLflow server, only the address is printed.
    """
    from storage.mlflow_server import serve

    settings = read_settings(config)
    studies = [open_study(settings, name)[1]] if name else open_store(settings).studies()

    def print_addresses(address: str) -> None:
        from storage.saved_views import view_path

        click.echo(f"MLflow UI: {address}")
        for study in studies:
            if study.experiment_id:
                click.echo(f"  {study.name}: {address.rstrip('/')}{view_path(study.experiment_id)}")
        if not studies:
            click.echo("  no study yet; launch one: dynafront search studies/digits.yml")

    serve(settings, print_addresses)
