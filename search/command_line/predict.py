"""dynafront predict: an exported model classifies images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import read_settings
from search.command_line.paths import GivenPlace
from search.command_line.terminal import as_json, print_json
from search.export.extras import QUANTIZED


@click.command()
@click.argument("folder", type=GivenPlace())
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--max-macs", help="Answer by the model's best point of at most so many MACs: 8M.")
@click.option("--point", type=int, help="Answer by the model's point with this number.")
@click.option(
    "--variant", type=click.Choice(QUANTIZED), help="Answer by the file in this number format."
)
@as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print a table of comma-separated values.")
@click.pass_obj
def predict(
    config: Path | None,
    folder: Path | str,
    images: tuple[Path, ...],
    max_macs: str | None,
    point: int | None,
    variant: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Classify IMAGES with the exported model in FOLDER.

    Prints class, probability and MACs of each image. IMAGES are files, folders with images at any depth, or - for
    file names on standard input, one a line. FOLDER can also be the URL that a model was exported
    to, or a registered model: models:/NAME@ALIAS. What cannot be read is named, and the exit code is then 1.
    """
    from search.commands.predict import answers, classifier, csv_line
    from search.export.points import thresholds_for
    from search.objectives import macs_number
    from search.report.amounts import macs as macs_words

    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    limit = None if max_macs is None else macs_number(max_macs)
    rows, broken = [], 0
    with classifier(folder, read_settings(config), variant) as model:
        thresholds = thresholds_for(model.description, point=point, max_macs=limit)
        if as_csv:
            click.echo(csv_line(None), nl=False)
        for one in answers(model, images, thresholds):
            broken += bool(one.error)
            rows.append(one.as_dict())
            if one.error:
                click.echo(f"{one.image}: {one.error}", err=True)
            elif not as_json and not as_csv:
                click.echo(
                    f"{one.image}: {one.label} ({one.probability:.1%}, {macs_words(one.macs)})"
                )
            if as_csv:
                click.echo(csv_line(one), nl=False)
    if as_json:
        print_json(rows)
    if broken:
        raise click.exceptions.Exit(1)
