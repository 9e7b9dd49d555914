"""The command line: the group of all commands, and what becomes of an error. What each command takes stands in
search.command_line, what it does in search.commands.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from search.command_line.account import accounts
from search.command_line.check import check_file
from search.command_line.clean import clean_studies
from search.command_line.compare import compare_studies
from search.command_line.delete import delete
from search.command_line.export import export_point
from search.command_line.finalists import show_finalists
from search.command_line.front import show_front
from search.command_line.init import write_study
from search.command_line.inspect import inspect_training
from search.command_line.list import list_studies
from search.command_line.merge import merge_trainings
from search.command_line.paths import GivenPath
from search.command_line.predict import predict
from search.command_line.profile import profile
from search.command_line.retune import retune_model
from search.command_line.schema import show_schema
from search.command_line.search import launch
from search.command_line.serve import serve
from search.command_line.spaces import show_spaces
from search.command_line.status import show_status
from search.command_line.sync import sync
from search.command_line.ui import ui
from search.command_line.verbose import verbose

logger = logging.getLogger(f"dynafront.{__name__}")

COMMANDS = (  # in the order of use, not of the alphabet
    write_study,
    check_file,
    profile,
    launch,
    list_studies,
    show_status,
    show_finalists,
    show_front,
    compare_studies,
    show_spaces,
    show_schema,
    ui,
    serve,
    accounts,
    export_point,
    predict,
    retune_model,
    inspect_training,
    merge_trainings,
    sync,
    clean_studies,
    delete,
)


# click's own errors have their text, and a reader that went away, such as `| head`, wants none
PASSED_ON = (
    click.ClickException,
    click.exceptions.Exit,
    click.Abort,
    BrokenPipeError,
)


class _Commands(click.Group):
    """Turns an error into one line: exit code 2 for what a person can put right, 1 for the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PASSED_ON:
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except ValueError as error:
            logger.debug("what was asked for cannot be done", exc_info=error)
            raise click.exceptions.UsageError(_one_line(error)) from None
        except Exception as error:
            click.echo(f"Error: {_complaint(error)}", err=True)
            raise click.exceptions.Exit(1) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="dynafront")
@verbose
@click.option(
    "--config",
    type=GivenPath(dir_okay=False),
    help="Settings file; without it ./mlflow.yml, and where there is none, everything goes to ./dynafront-data.",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Search dynamic neural networks, browse the accuracy/compute front, export the point you pick.

    \b
    dynafront search studies/digits.yml      launch; the same command goes on after an interruption
    dynafront front digits                   the front as a table
    dynafront ui digits                      the front in the MLflow UI
    dynafront export digits                  the cheapest model as good as the best, ready to ship
    dynafront predict exported/ image.png    try it
    """
    ctx.obj = config


def _complaint(error: Exception) -> str:
    """The error in one line; what no one foresaw says how to see more of it."""
    if type(error).__module__.partition(".")[0] in ("storage", "search"):
        logger.debug("the command failed", exc_info=error)
        return _one_line(error)
    logger.info("the command failed unexpectedly", exc_info=error)
    return (
        f"{type(error).__name__}: {_one_line(error)} (unexpected; run it with -v for the traceback)"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


for command in COMMANDS:
    main.add_command(verbose(command))

if __name__ == "__main__":
    main()
