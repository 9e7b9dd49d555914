"""dynafront inspect: what a trained network does with validation images."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.choice import choice_options
from search.command_line.opening import open_study, read_settings
from search.command_line.paths import OutFolder
from search.command_line.terminal import print_lines, steps, terminal
from storage.urls import is_url


@click.command("inspect")
@click.argument("name")
@click.option(
    "--trial", type=click.IntRange(0), help="This trial, at the point that represents it."
)
@choice_options
@click.option(
    "--out",
    type=OutFolder(),
    default=Path("inspected"),
    show_default=True,
    help="Folder.",
)
@click.pass_obj
def inspect_training(
    config: Path | None,
    name: str,
    trial: int | None,
    pick: str | None,
    max_macs: str | None,
    max_latency_ms: str | None,
    min_accuracy: float | None,
    family: str | None,
    point: int | None,
    out: Path,
) -> None:
    """Draw what a trained network does with validation images.

    It is a network of study NAME, the efficient point of the front where no other is chosen; NAME can also be the
    folder of an exported model, or its URL.
    Writes pictures and one interactive page: easiest and hardest images, gates by class, skip patterns, exits and their
    attention, mixing of layers, layers at other places, as far as the network has them.
    """
    from storage.records import Kind

    settings, knobs = read_settings(config), None
    training = None if trial is None else (Kind.SEARCH, trial)
    if is_url(name) or (Path(name) / "model.json").is_file():
        from search.export.folder import exported_point
        from search.export.remote_folder import local_folder

        with local_folder(name) as folder:
            name, training, knobs = exported_point(folder)
    store, record = open_study(settings, name)
    console = terminal()
    steps(console)("loading PyTorch")  # a mistyped name is answered without
    from search.commands.choice import Choice
    from search.commands.inspect import chosen_point, inspect_point

    choice = Choice(
        pick=pick,
        max_macs=max_macs,
        max_latency_ms=max_latency_ms,
        min_accuracy=min_accuracy,
        family=family,
        point=point,
    )
    shown = chosen_point(store, record, training=training, choice=choice, knobs=knobs)
    lines = inspect_point(store, record, settings, shown, out, say=steps(console))
    print_lines(console, lines, wrap=False)
