"""dynafront spaces: what can be searched."""

from __future__ import annotations

import click

from search.command_line.terminal import as_json, print_json, terminal


@click.command("spaces")
@as_json
@click.argument("family", required=False)
def show_spaces(as_json: bool, family: str | None) -> None:
    """List what can be searched: families and their dimensions.

    Every dimension has a range, a default, and the condition under which it matters.
    A study file can fix (`target: 0.5`) or narrow (`backbone: [resnet8, resnet14]`, `target: {low: 0.3, high: 0.8}`)
    any dimension. Those that are not searched by default keep their default until a study file names them.
    """
    from search.commands.spaces import as_dict, print_table

    if as_json:
        print_json(as_dict(family))
    else:
        print_table(terminal(), family)
