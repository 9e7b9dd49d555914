"""dynafront init: a study file for somebody's images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import read_settings
from search.command_line.paths import OutFile
from search.command_line.terminal import print_lines, steps, terminal


@click.command("init")
@click.argument("path")
@click.option(
    "--out", type=OutFile(), default=Path("my-images.yml"), show_default=True, help="File."
)
@click.option("--name", help="The study's name.  [default: that of the folder]")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long the search may take on this machine.",
)
@click.option(
    "--backbone",
    metavar="MODEL",
    help="A timm model to start from.  [default: chosen for the images]",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False),
    help="A file of its trained weights.  [default: its published ones]",
)
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Milliseconds that an image may take: latency is then searched in place of MACs.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.pass_obj
def write_study(
    config: Path | None,
    path: str,
    out: Path,
    name: str | None,
    hours: float,
    backbone: str | None,
    weights: str | None,
    max_latency_ms: float | None,
    force: bool,
) -> None:
    """Look at the images in PATH and write a study file that fits them.

    PATH is a folder of class folders, of train and test with class folders, or of Parquet files; or a known data set,
    such as cifar10. Sizes of images and networks, batch, epochs and trials are chosen for the images and the time, and
    it is said why. The file passes `check`.

    \b
      dynafront init photos                     networks that fit the images
      dynafront init photos --backbone efficientnet_b0
                                                a model of timm, with its published weights
      dynafront init photos --backbone efficientnet_b0 --weights mine.safetensors --max-latency-ms 5
                                                your own weights, and what an image may take
    """
    if out.exists() and not force:
        raise ValueError(f"{out} is there already; --force overwrites it, --out names another file")
    settings, console = read_settings(config), terminal()
    steps(console)("loading PyTorch")
    from search.commands.init import Wishes, study_for

    wishes = Wishes(hours, name, backbone, weights, max_latency_ms)
    text, reasons = study_for(path, wishes, settings, console, str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print_lines(console, reasons, wrap=False)
    console.print(f"\nWrote {out}", soft_wrap=True)
    if max_latency_ms is not None:
        console.print(
            f"dynafront profile {out}    # first: the times of this machine", soft_wrap=True
        )
    console.print(f"dynafront search {out}", soft_wrap=True)
