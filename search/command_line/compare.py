"""dynafront compare: two studies' fronts side by side."""

from __future__ import annotations

from pathlib import Path

import click

from search.command_line.opening import open_study, read_settings
from search.command_line.paths import OutFile
from search.command_line.terminal import as_json, print_json, terminal


@click.command("compare")
@click.argument("first")
@click.argument("second")
@click.option(
    "--within",
    multiple=True,
    metavar="N",
    help="A budget of cost, such as 10M, within which the best accuracies are compared; again for more.  [default: "
    "three over the range of both fronts]",
)
@click.option("--plot", type=OutFile(), help="Write a picture of both fronts: FILE.png.")
@as_json
@click.pass_obj
def compare_studies(
    config: Path | None,
    first: str,
    second: str,
    within: tuple[str, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare the fronts of studies FIRST and SECOND.

    Hypervolume at a common reference point, how much of the other's front each covers, and the best accuracy within
    budgets, with 95 % intervals. The studies must have the same images and objectives.
    """
    from search.front.stored import study_cost
    from search.front.two_fronts import compare
    from search.report.comparison import comparison_json, comparison_png, print_comparison

    if plot and plot.suffix != ".png":
        raise ValueError(f"--plot {plot}: give a name that ends in .png")
    if first == second:
        raise ValueError(f"{first} and {second} are one study; name two")
    settings = read_settings(config)
    store, one = open_study(settings, first)
    _, two = open_study(settings, second)
    cost = study_cost(one)
    found = compare(store, (one, two), [cost.read(text) for text in within])
    if as_json:
        print_json(comparison_json(found))
    else:
        print_comparison(terminal(), found)
    if plot:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_bytes(comparison_png(found))
        click.echo(f"Wrote {plot}", err=True)
