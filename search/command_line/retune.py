"""dynafront retune: thresholds of an exported model, chosen again on other images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.paths import GivenPath, GivenPlace, OutPlace
from search.command_line.terminal import print_lines, steps, terminal


@click.command("retune")
@click.argument("folder", type=GivenPlace())
@click.argument("images", type=GivenPath())
@click.option("--max-macs", help="MACs an image, at most, on average: 8M. Default: as exported.")
@click.option(
    "--out",
    type=OutPlace(),
    default="retuned",
    show_default=True,
    help="Folder or URL to write to.",
)
@click.option("--force", is_flag=True, help="Overwrite an earlier model in the folder.")
def retune_model(
    folder: Path | str, images: Path, max_macs: str | None, out: Path | str, force: bool
) -> None:
    """Choose the thresholds of the exported model in FOLDER again, on labelled IMAGES. FOLDER can also be a URL.

    IMAGES is a folder with a folder of images for each class. Half of them choose, the other half says what came of
    it. Weights stay as they are. The result is another folder like FOLDER.
    """
    from search.objectives import macs_number

    console, limit = terminal(), None if max_macs is None else macs_number(max_macs)
    steps(console)("loading PyTorch")
    from search.commands.retune import retune
    from search.export.remote_folder import local_folder

    with local_folder(folder) as local:
        lines = retune(local, images, out, max_macs=limit, force=force, say=steps(console))
    print_lines(console, lines)
