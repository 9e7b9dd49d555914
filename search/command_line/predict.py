"""dynafront predict: an exported model classifies images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import read_settings
from search.command_line.paths import GivenPath
from search.command_line.terminal import as_json, print_json


@click.command()
@click.argument("folder", type=GivenPath())
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@as_json
@click.pass_obj
def predict(config: Path | None, folder: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Classify IMAGES with the exported model in FOLDER.

    Prints class, probability and MACs of each image. IMAGES are files, folders with images at any depth, or - for
    file names on standard input, one a line. FOLDER can also be a registered model: models:/NAME@ALIAS. What cannot
    be read is named, and the exit code is then 1.
    """
    from search.commands.predict import answers, classifier
    from search.report.amounts import macs as macs_words

    rows, broken = [], 0
    with classifier(folder, read_settings(config)) as model:
        for one in answers(model, images):
            broken += bool(one.error)
            rows.append(one.as_dict())
            if one.error:
                click.echo(f"{one.image}: {one.error}", err=True)
            elif not as_json:
                click.echo(
                    f"{one.image}: {one.label} ({one.probability:.1%}, {macs_words(one.macs)})"
                )
    if as_json:
        print_json(rows)
    if broken:
        raise click.exceptions.Exit(1)
