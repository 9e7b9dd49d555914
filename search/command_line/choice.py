"""The options by which commands are told which point of a study is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--pick",
        type=click.Choice(["efficient", "equal", "best", "fastest", "knee"]),
        help="Which point of the front. efficient: the cheapest that is within one point of the best accuracy, or not "
        "significantly worse. equal: the cheapest that keeps the accuracy of the best static network, which may be "
        "that one. best: the most accurate. fastest: the cheapest, by latency where it is known. knee: the "
        "farthest above the line between the front's ends.  [default: efficient]",
    ),
    click.option(
        "--max-macs",
        help="Only points of at most this many MACs an image, such as 10M; without --pick the most accurate of them.",
    ),
    click.option(
        "--max-latency-ms",
        help="Only points that take at most so many milliseconds an image on the machine of the study's latency table; "
        "without --pick the most accurate of them.",
    ),
    click.option(
        "--min-accuracy",
        type=float,
        help="Only points of at least this validation accuracy, such as 0.97; without --pick the cheapest of them.",
    ),
    click.option("--family", help="A point of this family's own front."),
    click.option(
        "--point",
        type=click.IntRange(1),
        help="The point of this id, as `front` shows it, on the front or not; instead of all other choices.",
    ),
)


def choice_options(command: Command) -> Command:
    """Gives a command --pick, --max-macs, --max-latency-ms, --min-accuracy, --family and --point, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
