"""dynafront delete: a study goes."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_study, read_settings
from search.command_line.terminal import print_lines, steps, terminal


@click.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--mlflow", is_flag=True, help="Delete its runs in MLflow too.")
@click.pass_obj
def delete(config: Path | None, name: str, yes: bool, mlflow: bool) -> None:
    """Delete study NAME: its trials, points and checkpoints, for good.

    Exported models stay, and so do runs and registered models in MLflow. A study that is being searched is refused.
    """
    settings, console = read_settings(config), terminal()
    store, record = open_study(settings, name)
    from search.commands.delete import delete_study, what_goes

    if not yes:
        question = f"Delete {what_goes(store, record, settings, mlflow=mlflow)}?"
        click.confirm(question, abort=True)
    lines = delete_study(store, record, settings, mlflow=mlflow, say=steps(console))
    print_lines(console, lines)
