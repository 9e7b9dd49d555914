"""A table of a paper, trained again and printed beside what was published.

The study file in studies/papers/tables has the paper's recipe; `--scale smoke` and `cpu` make it small, and then only
the order of the rows can be compared. Accuracy is of the test images, read once, of each network as the row says; with
repeats the mean, and its 95 % interval by Student's t. Rows of ImageNet need `--data folder:FOLDER` at `gpu` scale.

    python benchmarks/papers.py --list
    python benchmarks/papers.py dlcg-table-1 --scale gpu --folder FOLDER    # keeps the study there, and goes on with it
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from scipy import stats

from benchmarks.paper_tables.every import TABLES
from benchmarks.paper_tables.merged import JOINT
from benchmarks.paper_tables.readings import READINGS, Reading, TrainedNet
from benchmarks.paper_tables.table import SCALES, Other, PaperTable, Row
from benchmarks.pretrained import versions
from search.commands.search import NoFrontError, run_study
from search.front.eligible import chosen_of
from search.schedule.warm_start import sized_baseline
from search.spec import exact_settings, narrowed_spaces, parse_study
from search.study_keys import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, PointRecord, State, TrialRecord
from storage.settings import Settings, Storage
from storage.store import Store


@dataclass(frozen=True)
class Ours:
    """A row as it was trained here: what was read of each repeat on the test images."""

    row: Row
    tested: Sequence[Reading]

    @property
    def accuracy(self) -> float:
        return float(np.mean([one.accuracy for one in self.tested]))

    def mean(self, name: str) -> float | None:
        """The mean of another measure over repeats; None where a reading has it not."""
        values = [getattr(one, name) for one in self.tested]
        return None if not values or None in values else float(np.mean(values))

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval of the mean; None where it was trained once."""
        if len(self.tested) < 2:
            return None
        error = stats.sem([one.accuracy for one in self.tested])
        return float(error * stats.t.ppf(0.975, len(self.tested) - 1))

    def verdict(self, scale: str) -> str:
        """Whether the published accuracy is within the interval; only where it was trained as published."""
        if self.row.accuracy is None:
            return "published as a picture"
        if scale != "gpu":
            return f"not at {scale} scale"
        if self.half_width is None:
            return "one repeat has no interval"
        difference = self.accuracy - self.row.accuracy
        if abs(difference) <= self.half_width:
            return "as published"
        return "above" if difference > 0 else "below"


def trained(
    table: PaperTable, scale: str, text: str, settings: Settings, workers: int
) -> list[Ours]:
    """Train what is missing, and test each network once."""
    spec = parse_study(text, table.name)
    console = Console(stderr=True)
    rows = table.rows_at(scale)
    with suppress(NoFrontError):  # the small scales may learn next to nothing
        run_study(
            spec,
            text,
            settings,
            console,
            workers=workers,
            baselines=False,
            beside=static_nets(spec, rows),
        )
    store = Store.open(settings.database_url)
    nets = [
        TrainedNet(spec, trial, _point(store, spec, trial), settings)
        for trial in store.trials(spec.study)
        if trial.state == State.COMPLETE and trial.kind in (Kind.SEARCH, Kind.BASELINE)
    ]
    count = len(exact_settings(spec))
    found = []
    for row in rows:
        own = [net for net in nets if _is_of(net.trial, row, count)]
        found.append(Ours(row, _read(row, own)))
    store.close()
    return found


def _read(row: Row, nets: Sequence[TrainedNet]) -> list[Reading]:
    """What the row says of each network, or of all repeats together."""
    if row.reading in JOINT:
        return JOINT[row.reading](nets) if nets else []
    return [READINGS[row.reading](net, row.exit) for net in nets]


def static_nets(spec: StudySpec, rows: Sequence[Row]) -> list[Candidate]:
    """The baselines that rows are of, by the study's recipe."""
    name = spec.families[0]
    own, space = family(name), narrowed_spaces(spec)[name]
    sizes = [row.baseline for row in rows if row.setting is None]
    made = [sized_baseline(own, space, size, spec.budget.epochs) for size in sizes]
    return list({one.key: one for one in made}.values())


def _is_of(trial: TrialRecord, row: Row, count: int) -> bool:
    if row.setting is not None:
        return trial.kind == Kind.SEARCH and trial.number % count == row.setting
    return trial.kind == Kind.BASELINE and row.baseline.items() <= trial.params.items()


def _point(store: Store, spec: StudySpec, trial: TrialRecord) -> PointRecord:
    """The network as it was trained."""
    return chosen_of(store.points(spec.study, kind=trial.kind, number=trial.number))


# measures beside accuracy: what it is called, how it is written
MORE: dict[str, tuple[str, Callable[[float], str]]] = {
    "top5": ("top-5", lambda value: f"{value:.2%}"),
    "macs": ("MACs", lambda value: f"{value / 1e6:.2f} M"),
    "rate": ("open rate", lambda value: f"{value:.3f}"),
    "share": ("images answered", lambda value: f"{value:.2%}"),
}


def printed(table: PaperTable, ours: Sequence[Ours], scale: str) -> str:
    """The table in Markdown: published beside ours. MACs stand there in any case, other measures where published."""
    shown = ["macs", *(n for n in MORE if any(getattr(one.row, n) is not None for one in ours))]
    shown = list(dict.fromkeys(shown))
    heads = [f"published {MORE[name][0]} | ours" for name in shown]
    lines = [
        f"{table.name} at {scale} scale: {table.source}",
        "",
        f"| | published accuracy | ours | repeats | {' | '.join(heads)} | |",
        f"| {' | '.join(['---'] * (5 + 2 * len(shown)))} |",
        *(f"| {' | '.join(_cells(one, shown, scale))} |" for one in ours),
        *(f"| {' | '.join(_cells_of(other, shown))} |" for other in table.others),
    ]
    known = [
        (one.row.accuracy, one.accuracy)
        for one in ours
        if one.tested and one.row.accuracy is not None and math.isfinite(one.accuracy)
    ]
    if len(known) > 2:
        correlation = stats.spearmanr(*zip(*known, strict=True))[0]
        lines += ["", f"Rank correlation of the accuracies: {correlation:.2f}"]
    lines += [f"Differs from the paper: {one}." for one in table.differs]
    return "\n".join(lines)


def _cells(one: Ours, shown: Sequence[str], scale: str) -> list[str]:
    row, published = one.row, "" if one.row.accuracy is None else f"{one.row.accuracy:.2%}"
    width = "" if one.half_width is None else f" +- {100 * one.half_width:.2f}"
    own = f"{one.accuracy:.2%}{width}" if one.tested else "failed"
    if one.tested and math.isnan(one.accuracy):
        own = "no image"
    cells = [row.label, published, own, str(len(one.tested))]
    for name in shown:
        text = MORE[name][1]
        values = (getattr(row, name), one.mean(name))
        cells += ["" if value is None or math.isnan(value) else text(value) for value in values]
    return [*cells, one.verdict(scale) if one.tested else ""]


def _cells_of(other: Other, shown: Sequence[str]) -> list[str]:
    cells = [other.label, f"{other.accuracy:.2%}", "", ""]
    for name in shown:
        value = getattr(other, name, None)
        cells += ["" if value is None else MORE[name][1](value), ""]
    return [*cells, "not trained here"]


def _cpu_seconds() -> float:
    """Of this process and of workers that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help="one or several; --list names them"
    )
    parser.add_argument("--all", action="store_true", help="all tables, one after the other")
    parser.add_argument("--list", action="store_true", help="all tables")
    parser.add_argument("--scale", choices=SCALES, default="smoke")
    parser.add_argument("--data", help="as `data` in a study file, in place of the table's")
    parser.add_argument("--repeats", type=int, help="in place of the scale's")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", help="keeps the study there, and goes on with it")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name}: {table.source}" for name, table in TABLES.items()))
        return
    if unknown := set(args.tables) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}; --list shows all")
    if bool(args.tables) == args.all:
        parser.error("name tables, or --all; --list shows all")
    for name in TABLES if args.all else args.tables:
        table = TABLES[name]
        text = table.text(args.scale, args.data, args.repeats)
        begin = _cpu_seconds()
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(storage=Storage(folder=Path(args.folder or folder)))
            ours = trained(table, args.scale, text, settings, args.workers)
        print(printed(table, ours, args.scale))
        print(f"{_cpu_seconds() - begin:.0f} CPU seconds in this call.", flush=True)
    print(versions())


if __name__ == "__main__":
    main()
