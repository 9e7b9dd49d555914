"""Two studies beside each other: as a table, as JSON, as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.front.two_fronts import Comparison, Interval
from search.report.amounts import percent
from search.report.canvas import BASELINE, FRONT, as_png, canvas
from search.report.front_plot import draw_series, scale_axes
from storage.records import PointRecord, training_text


def print_comparison(console: Console, found: Comparison) -> None:
    """A table of both, and what their difference is worth."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("", *found.names):
        table.add_column(Text(name), overflow="fold")
    table.add_row("points on the front", *(str(len(members)) for members in found.members))
    volumes = zip(found.volumes, found.volume_intervals, strict=True)
    table.add_row("hypervolume", *(_with_interval(value, interval) for value, interval in volumes))
    table.add_row("covers of the other", *(percent(share) for share in found.coverage))
    label = found.metric.label
    for within in found.within:
        cells = [
            _cell(point, marked=within.better == place) for place, point in enumerate(within.points)
        ]
        table.add_row(f"best {label} within {found.cost.text(within.budget)}", *cells)
    console.print(table)
    for line in remarks(found):
        console.print(line, soft_wrap=True)


def remarks(found: Comparison) -> Iterator[str]:
    """What the numbers are, and whether the hypervolumes differ by more than chance."""
    one, two = found.names
    interval, difference = found.difference_interval, found.volumes[0] - found.volumes[1]
    if interval is None:
        yield "no interval of the hypervolumes: which images are answered rightly was not kept"
    else:
        low, high = interval
        verdict = "not significant"
        if low > 0 or high < 0:
            verdict = f"significant: {one if low > 0 else two} is better"
        yield f"hypervolume of {one} - {two}: {difference:+.4f} ({low:+.4f} to {high:+.4f}), {verdict}"
    yield "intervals are of 95 %, over validation images: luck of training and of choosing points comes on top"
    yield f"* significantly better {found.metric.label} than the other at this budget"
    if not found.same_images:
        yield "the validation images are not known to be the same: differences are seen less sharply"


def comparison_json(found: Comparison) -> dict[str, Any]:
    """The same as plain values."""
    studies = [
        {
            "study": name,
            "points": len(found.members[i]),
            "hypervolume": found.volumes[i],
            "hypervolume_interval": found.volume_intervals[i],
            "coverage": found.coverage[i],
        }
        for i, name in enumerate(found.names)
    ]
    within = [
        {
            "budget": one.budget,
            "points": [_point_json(p) for p in one.points],
            "better": None if one.better is None else found.names[one.better],
        }
        for one in found.within
    ]
    return {
        "studies": studies,
        "metric": found.metric.name,
        "cost": found.cost.name,
        "difference": found.volumes[0] - found.volumes[1],
        "difference_interval": found.difference_interval,
        "within": within,
        "same_images": found.same_images,
    }


def comparison_png(found: Comparison) -> bytes:
    """Both fronts in one picture, with the intervals of their points."""
    (one, two), volumes = found.names, found.volumes
    title = f"{one} and {two}: hypervolume {volumes[0]:.4f} and {volumes[1]:.4f}"
    figure, axes = canvas(title, next(remarks(found)))
    members = [p for own in found.members for p in own]
    scale_axes(axes, members, min(p.accuracy_low for p in members), found.cost)
    looks = ((FRONT, "-"), (BASELINE, "--"))
    for name, own, (colour, line) in zip(found.names, found.members, looks, strict=True):
        draw_series(axes, own, colour, found.cost, marker="o", line=line, label=name)
    for text in axes.legend(loc="lower right", framealpha=0.92, fontsize=9).get_texts():
        text.set_parse_math(False)  # a dollar sign in a name is no formula
    return as_png(figure)


def _with_interval(value: float, interval: Interval) -> str:
    if interval is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def _cell(point: PointRecord | None, *, marked: bool) -> str:
    if point is None:
        return "none"
    low, high = percent(point.accuracy_low), percent(point.accuracy_high)
    where = f"point {point.id}, {training_text(*point.training)}"
    return f"{percent(point.accuracy)}{' *' if marked else ''} ({low} to {high}); {where}"


def _point_json(point: PointRecord | None) -> dict[str, Any] | None:
    if point is None:
        return None
    keys = ("accuracy", "accuracy_low", "accuracy_high", "macs_mean", "parameters", "trial")
    own = {key: getattr(point, key) for key in keys}
    return {"point": point.id, "training": training_text(*point.training), **own}
