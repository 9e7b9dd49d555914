"""A stored study's front on the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from search.front.metric import metric_of
from search.front.stored import StudyFront, study_cost, study_majority
from search.report.front_page import front_html
from search.report.front_plot import front_png
from search.report.front_table import terminal_table
from search.report.front_text import equal_offer, majority_text, offer_text, summary
from search.report.no_front import no_front_text
from search.spec import stored_spec
from storage.records import PointRecord, StudyRecord
from storage.store import Store


def print_front(
    console: Console,
    store: Store,
    record: StudyRecord,
    front: StudyFront,
    family: str | None = None,
) -> None:
    """The front, of one family if that is named, in one line and as a table, and the baselines as another."""
    if not front.members:
        console.print(no_front_text(store, record, family), soft_wrap=True)
        return
    line = summary(record.name, front.members, front.baselines, cost=study_cost(record))
    console.print(f"{line}; hypervolume {front.volume:.4f}", soft_wrap=True)
    if majority := study_majority(store, record):
        console.print(majority_text(majority, metric_of(front.members)))
    console.print(terminal_table(front.members, console.width))
    cost = study_cost(record)
    console.print(offer_text(front.offer, cost), soft_wrap=True)
    if front.baselines:
        console.print(equal_offer(front.members, front.baselines, cost), soft_wrap=True)
        spec = stored_spec(record.spec)
        warm = any(spec.warm(name) for name in spec.families)
        which = (
            "that trials start from, and of other sizes"
            if warm
            else "of the same recipe and budget"
        )
        console.print(f"baselines {which}:")
        by_cost = sorted(front.baselines, key=lambda p: p.macs_mean)
        console.print(terminal_table(by_cost, console.width))


def what_is_shown(
    store: Store, record: StudyRecord, front: StudyFront
) -> tuple[list[PointRecord], dict[str, Any]]:
    """All points of a front's picture, and what else a picture takes."""
    return front.points, front.shown(study_majority(store, record))


def write_plot(store: Store, record: StudyRecord, front: StudyFront, plot: Path) -> None:
    """The front as FILE.png, or as a page: FILE.html."""
    points, shown = what_is_shown(store, record, front)
    if plot.suffix == ".png":
        plot.write_bytes(front_png(record.name, points, **shown))
    else:
        plot.write_text(front_html(record.name, points, **shown), encoding="utf-8")
