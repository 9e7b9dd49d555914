"""-v, before a command or behind it: what the program does, on stderr."""

from __future__ import annotations

import click

from search.logs import show_logs

_GIVEN = "dynafront.verbosity"


def _show_more(ctx: click.Context, parameter: click.Parameter, count: int) -> None:
    # the program's own context and its command's share what they keep here
    ctx.meta[_GIVEN] = ctx.meta.get(_GIVEN, 0) + count
    show_logs(ctx.meta[_GIVEN])


verbose = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_show_more,
    help="Print what happens, on stderr, and the traceback of an unexpected error; -vv: details too.",
)
