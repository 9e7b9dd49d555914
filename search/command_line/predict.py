"""dynafront predict: an exported model classifies images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.paths import GivenPath
from search.command_line.terminal import as_json, print_json


@click.command()
@click.argument("folder", type=GivenPath())
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json
def predict(folder: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Classify IMAGES with the exported model in FOLDER.

    Prints class, probability and MACs of each image.
    """
    from search.export.classifier import load_classifier
    from search.report.amounts import macs as macs_words

    model = load_classifier(folder)
    rows = []
    for image in images:
        label, probability, macs = model.predict(image)
        rows.append({"image": str(image), "class": label, "probability": probability, "macs": macs})
        if not as_json:
            click.echo(f"{image}: {label} ({probability:.1%}, {macs_words(macs)})")
    if as_json:
        print_json(rows)
