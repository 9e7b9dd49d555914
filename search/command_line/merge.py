"""dynafront merge: one network out of several trainings, layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_study, read_settings
from search.command_line.paths import OutFile
from search.command_line.terminal import print_lines, steps, terminal


@click.command("merge")
@click.argument("name")
@click.option(
    "--trial",
    "trials",
    type=click.IntRange(0),
    multiple=True,
    help="One of the trainings to merge; give it several times. Without it: those of the setting that was trained "
    "most often.",
)
@click.option(
    "--models",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Merged models to draw.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option(
    "--out",
    type=OutFile(),
    default=Path("merged.json"),
    show_default=True,
    help="File for what was measured.",
)
@click.pass_obj
def merge_trainings(
    config: Path | None,
    name: str,
    trials: tuple[int, ...],
    models: int,
    seed: int,
    out: Path,
) -> None:
    """Draw each layer of a network from another training of study NAME, and measure what such networks still know.

    Trainings of family shuffled_vit that started from the same weights (init_from, or pretrained) and differ by
    their seed alone can be merged: a study file with one entry in `trials` and `repeats: 12` makes twelve. Measures on
    validation images the trainings alone, the merged models, and all trainings asked together (mean of logits), with
    layers in order and in any order, and writes all numbers to a JSON file.
    """
    settings = read_settings(config)
    store, record = open_study(settings, name)
    console = terminal()
    steps(console)("loading PyTorch")
    from search.commands.merge import merge_trials

    lines = merge_trials(store, record, settings, trials, models, seed, out, say=steps(console))
    print_lines(console, lines, wrap=False)
