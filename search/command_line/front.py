"""dynafront front: the front as a table, as text for programs, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_study, read_settings
from search.command_line.paths import OutFile
from search.command_line.terminal import print_json, terminal


@click.command("front")
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="For people, spreadsheets, programs.",
)
@click.option(
    "--plot",
    type=OutFile(),
    help="Write a picture: FILE.html or FILE.png.",
)
@click.option("--family", help="The front of this family's networks alone.")
@click.pass_obj
def show_front(
    config: Path | None, name: str, form: str, plot: Path | None, family: str | None
) -> None:
    """Show the points of study NAME that no other beats.

    These are the best in accuracy and compute: no other point has more accuracy for as few MACs.
    Accuracy is the study's metric on validation (top-1 unless its file says otherwise) with its 95 % interval; MACs are
    per image, over real images.
    """
    from search.commands.front import print_front, write_plot
    from search.front.formats import as_csv
    from search.front.formats import as_json as front_json
    from search.front.stored import study_front

    if plot and plot.suffix not in (".html", ".png"):
        raise ValueError(f"--plot {plot}: give a name that ends in .html or .png")
    store, record = open_study(read_settings(config), name)
    front = study_front(store, record, family)
    if plot:
        write_plot(store, record, front, plot)
    if form == "json":
        print_json(front_json(name, front.members, front.volume))
    elif form == "csv":
        click.echo(as_csv(front.members), nl=False)
    else:
        print_front(terminal(), store, record, front, family)
    if plot:
        click.echo(f"Wrote {plot}", err=True)
