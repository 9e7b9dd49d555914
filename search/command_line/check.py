"""dynafront check: a study file, tried without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.command_line.engine import engine_option
from search.command_line.opening import read_settings
from search.command_line.paths import GivenPath
from search.command_line.terminal import as_json, notes, print_json, print_lines, terminal

if TYPE_CHECKING:
    from search.study_parts import EngineName


@click.command("check")
@click.argument("study_file", type=GivenPath())
@click.option("--workers", type=click.IntRange(0), help="As of `search`. Overrides run.workers.")
@engine_option
@as_json
@click.pass_obj
def check_file(
    config: Path | None,
    study_file: Path,
    workers: int | None,
    engine: EngineName | None,
    as_json: bool,
) -> None:
    """Check what `search` would check of STUDY_FILE, and estimate what it will take.

    The file, the images, the device and the weights are checked, and each family's network is built. A few training
    steps are timed. Nothing is trained, and nothing is written to the database.
    """
    from search.commands.study_file import read_begun
    from search.engine_keys import on_engine
    from search.inputs import check_inputs

    settings, console = read_settings(config), terminal(stderr=as_json)
    spec, _ = read_begun(study_file, settings, notes(console))
    spec = on_engine(spec, engine, workers)
    check_inputs(spec, str(study_file))
    console.print("  loading PyTorch", style="dim")
    from search.commands.check import check_study, lines

    found = check_study(spec, settings, console, workers=workers)
    if as_json:
        print_json(found.as_dict())
        return
    print_lines(console, lines(found), wrap=False)
    flag = f" --engine {engine}" if engine else ""
    console.print(f"\n{study_file} is ready: dynafront search {study_file}{flag}", soft_wrap=True)
