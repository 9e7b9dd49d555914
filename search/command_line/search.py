"""dynafront search: launch a study, or go on with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.command_line.engine import engine_option
from search.command_line.opening import read_settings
from search.command_line.paths import GivenPath
from search.command_line.terminal import notes, steps, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from search.spec import StudySpec
    from search.study_parts import EngineName
    from storage.settings import Settings


@click.command("search")
@click.argument("study_file", type=GivenPath())
@click.option(
    "--baselines",
    is_flag=True,
    help="Also train baselines of all sizes that the study searches, and of smaller ones, for the comparison.",
)
@click.option("--ladder", is_flag=True, hidden=True, help="The earlier name of --baselines.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Trials at once, each in a process of its own (0: one, in this process). Overrides run.workers.",
)
@engine_option
@click.option(
    "--finalists",
    type=click.IntRange(0),
    default=0,
    help="After the budget is spent, train the N most valuable trainings of the front again, each from 3 new seeds and "
    "for twice the epochs: shows how much of the front was luck. Each takes as long as 6 trials. It can be interrupted "
    "and continued.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Train the trials that failed again, with their numbers and seeds, once what failed them is put right.",
)
@click.pass_obj
def launch(
    config: Path | None,
    study_file: Path,
    baselines: bool,
    ladder: bool,
    workers: int | None,
    engine: EngineName | None,
    finalists: int,
    retry_failed: bool,
) -> None:
    """Launch the study that STUDY_FILE describes, or go on with it.

    Ctrl-C stops it; the same command resumes, losing at most the epoch that was under way. `trials` in the file is the
    total, so a larger number extends a finished study. See studies/ for files to start from.
    """
    from search.commands.study_file import read_begun
    from search.engine_keys import on_engine
    from search.inputs import check_inputs
    from search.run.stop_signal import STOP

    settings, console = read_settings(config), terminal()
    spec, text = read_begun(study_file, settings, notes(console))
    spec = on_engine(spec, engine, workers)
    check_inputs(spec, str(study_file))
    # a scheduler's stop is as gentle as Ctrl-C
    signal.signal(STOP, signal.default_int_handler)
    workers = spec.run.workers if workers is None else workers
    baselines = baselines or ladder
    try:
        _run(
            spec,
            text,
            settings,
            console,
            workers=workers,
            baselines=baselines,
            finalists=finalists,
            retry_failed=retry_failed,
        )
    except KeyboardInterrupt:
        console.print(f"\nStopped. Nothing is lost: dynafront search {study_file} goes on.")
        raise


def _run(
    spec: StudySpec,
    text: str,
    settings: Settings,
    console: Console,
    *,
    workers: int,
    baselines: bool,
    finalists: int,
    retry_failed: bool,
) -> None:
    """Search, train the finalists, and show what came out."""
    from search.commands.search_text import closing_lines, opening_line

    console.print(opening_line(spec), soft_wrap=not console.is_terminal)
    steps(console)("loading PyTorch")
    from search.commands.finalists import show
    from search.commands.front import print_front
    from search.commands.search import run_study
    from search.commands.train_finalists import train_finalists
    from search.front.stored import study_front
    from storage.store import Store

    finished = run_study(
        spec,
        text,
        settings,
        console,
        workers=workers,
        baselines=baselines,
        retry_failed=retry_failed,
    )
    if finalists:
        report = train_finalists(spec, settings, console, count=finalists, workers=workers)
    store = Store.open(settings.database_url)
    record = store.study(spec.study)
    print_front(console, store, record, study_front(store, record))
    console.print()
    if finalists:
        show(console, report)
        console.print()
    for line in closing_lines(spec, finished):
        console.print(line)
