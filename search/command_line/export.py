"""dynafront export: a point of a front as a model that runs anywhere."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.choice import choice_options
from search.command_line.opening import open_study, read_settings
from search.command_line.paths import OutPlace
from search.command_line.terminal import print_lines, steps, terminal
from search.export.extras import FORMATS, QUANTIZED, Extras


@click.command("export")
@click.argument("name")
@choice_options
@click.option(
    "--out",
    type=OutPlace(),
    default=Path("exported"),
    show_default=True,
    help="Folder, or a URL: s3://BUCKET/FOLDER.",
)
@click.option("--force", is_flag=True, help="Overwrite an earlier export in the folder.")
@click.option(
    "--whole-curve",
    is_flag=True,
    help="Carry all points of the training, though gates then decide that could be settled.",
)
@click.option(
    "--exit",
    type=click.IntRange(1),
    help="End the network at its exit of this number, from 1: a smaller file, and images that would go on are answered "
    "there. Exits before it keep their thresholds.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("onnx",),
    show_default=True,
    type=click.Choice(FORMATS),
    help="pt2: also a program of torch.export. Can be repeated; the ONNX file is always written.",
)
@click.option(
    "--quantize",
    multiple=True,
    type=click.Choice(QUANTIZED),
    help="Also a file in this number format, measured beside the float32 one. Can be repeated.",
)
@click.option("--register", is_flag=True, help="Also register the model in MLflow, alias by pick.")
@click.pass_obj
def export_point(
    config: Path | None,
    name: str,
    pick: str | None,
    max_macs: str | None,
    max_latency_ms: str | None,
    min_accuracy: float | None,
    family: str | None,
    point: int | None,
    out: Path | str,
    force: bool,
    whole_curve: bool,
    exit: int | None,
    formats: tuple[str, ...],
    quantize: tuple[str, ...],
    register: bool,
) -> None:
    """Turn a point of study NAME's front into a model to ship.

    Writes model.safetensors, model.json, model.onnx and a model card into the folder. Gates that never vary are cut
    out, batch norm is folded in, accuracy and compute are measured on the test split, and every answer is compared
    with the trained network's. Without a choice, the efficient point of the front. Limits
    hold first: --pick chooses among the points within them.
    """
    settings, console = read_settings(config), terminal()
    store, record = open_study(settings, name)
    steps(console)("loading PyTorch")  # a mistyped name is answered without
    from search.commands.choice import Choice
    from search.commands.export import export_choice

    choice = Choice(
        pick=pick,
        max_macs=max_macs,
        max_latency_ms=max_latency_ms,
        min_accuracy=min_accuracy,
        family=family,
        point=point,
    )
    lines = export_choice(
        store,
        record,
        settings,
        choice,
        out,
        register=register,
        force=force,
        extras=Extras(
            formats=formats,
            quantize=tuple(dict.fromkeys(quantize)),
            whole_curve=whole_curve,
            exit=exit,
        ),
        say=steps(console),
    )
    print_lines(console, lines, wrap=False)  # one of them is to be pasted
