"""dynafront profile: how long the units of a study's networks take on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.command_line.opening import read_settings
from search.command_line.paths import GivenPath, OutFile, OutFolder
from search.command_line.terminal import notes, print_lines, steps, terminal

if TYPE_CHECKING:
    from search.latency.table import Runtime


@click.command("profile")
@click.argument("study_file", type=GivenPath())
@click.option(
    "--out",
    type=OutFile(),
    help="The table.  [default: what the study file names as `latency`, else latency.json]",
)
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "torch"]),
    default="onnxruntime",
    show_default=True,
    help="What the model will run in.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each run."
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Images of each run."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="About how long all units are timed.",
)
@click.option(
    "--bundle",
    type=OutFolder(),
    help="For another machine: write units and a script that times them there into this folder.",
)
@click.option(
    "--table",
    type=GivenPath(),
    help="A table from another machine: check that it fits the study, and keep it as --out.",
)
@click.pass_obj
def profile(
    config: Path | None,
    study_file: Path,
    out: Path | None,
    runtime: Runtime,
    device: str,
    threads: int,
    batch: int,
    seconds: float,
    bundle: Path | None,
    table: Path | None,
) -> None:
    """Time the units of the networks that STUDY_FILE searches, one by one, and write the table.

    With `latency: FILE` in the study file, each point then has the latency of an image: the sum over the stem, blocks,
    gates, exits and head that the image runs. Nothing else should run on the machine meanwhile. What else of dynafront
    measures time waits.
    """
    from search.commands.study_file import read_begun
    from search.inputs import check_inputs

    if bundle is not None and table is not None:
        raise ValueError("--bundle and --table: first the one, there the script, then the other")
    settings, console = read_settings(config), terminal()
    spec, _ = read_begun(study_file, settings, notes(console))
    check_inputs(spec, str(study_file))
    steps(console)("loading PyTorch")
    from search.commands.profile import Profile

    wanted = Profile(spec, settings, runtime, device, threads, batch, seconds, steps(console))
    out = out or Path(spec.latency or "latency.json")
    if bundle is not None:
        lines = wanted.bundle(bundle, study_file)
    elif table is not None:
        lines = wanted.adopted(table, out)
    else:
        lines = wanted.here(out)
    print_lines(console, lines, wrap=False)
