"""A table of a paper, trained again and printed beside what was published.

The study file in studies/papers/tables has the paper's recipe; `--scale smoke` and `cpu` make it small, and then only
the order of the rows can be compared. Accuracy is of the test images, read once, of each network as it was trained;
with repeats the mean, and its 95 % interval by Student's t.

    python benchmarks/papers.py --list
    python benchmarks/papers.py dlcg-table-1 --scale gpu --folder FOLDER    # keeps the study there, and goes on with it
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from scipy import stats

from benchmarks.cascades import Examiner, Measured
from benchmarks.paper_tables.every import TABLES
from benchmarks.paper_tables.table import SCALES, PaperTable, Row
from benchmarks.pretrained import versions
from search.commands.search import NoFrontError, run_study
from search.front.eligible import chosen_of
from search.spec import exact_settings, parse_study
from search.study_keys import StudySpec
from storage.records import Kind, PointRecord, State, TrialRecord
from storage.settings import Settings, Storage
from storage.store import Store


@dataclass(frozen=True)
class Ours:
    """A row as it was trained here: test accuracy and MACs of each repeat."""

    row: Row
    tested: Sequence[Measured]

    @property
    def accuracy(self) -> float:
        return float(np.mean([one.accuracy for one in self.tested]))

    @property
    def macs(self) -> float:
        return float(np.mean([one.macs for one in self.tested]))

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval of the mean; None where it was trained once."""
        if len(self.tested) < 2:
            return None
        error = stats.sem([one.accuracy for one in self.tested])
        return float(error * stats.t.ppf(0.975, len(self.tested) - 1))

    def verdict(self, scale: str) -> str:
        """Whether the published accuracy is within the interval; only where it was trained as published."""
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
    wanted = any(row.setting is None for row in table.rows)
    with suppress(NoFrontError):  # the small scales may learn next to nothing
        run_study(spec, text, settings, console, workers=workers, baselines=wanted)
    store = Store.open(settings.database_url)
    examiner = Examiner(store, spec, settings, sys.maxsize)
    count = len(exact_settings(spec))
    found = []
    for row in table.rows:
        trials = [t for t in store.trials(spec.study) if _is_of(t, row, table, scale, count)]
        points = [_point(store, spec, trial) for trial in trials]
        found.append(Ours(row, [examiner.measure(point) for point in points]))
    store.close()
    return found


def _is_of(trial: TrialRecord, row: Row, table: PaperTable, scale: str, count: int) -> bool:
    if trial.state != State.COMPLETE:
        return False
    if row.setting is not None:
        return trial.kind == Kind.SEARCH and trial.number % count == row.setting
    wanted = table.baseline_of(row, scale)
    return trial.kind == Kind.BASELINE and wanted.items() <= trial.params.items()


def _point(store: Store, spec: StudySpec, trial: TrialRecord) -> PointRecord:
    """The network as it was trained."""
    return chosen_of(store.points(spec.study, kind=trial.kind, number=trial.number))


def printed(table: PaperTable, ours: Sequence[Ours], scale: str) -> str:
    """The table in Markdown: published beside ours."""
    lines = [
        f"{table.name} at {scale} scale: {table.source}",
        "",
        "| | published accuracy | ours | repeats | published MACs | ours | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in ours:
        if not one.tested:
            lines.append(
                f"| {one.row.label} | {one.row.accuracy:.2%} | failed | 0 | {_macs(one.row.macs)} | | |"
            )
            continue
        width = "" if one.half_width is None else f" +- {100 * one.half_width:.2f}"
        lines.append(
            f"| {one.row.label} | {one.row.accuracy:.2%} | {one.accuracy:.2%}{width} | {len(one.tested)} "
            f"| {_macs(one.row.macs)} | {_macs(one.macs)} | {one.verdict(scale)} |"
        )
    known = [one for one in ours if one.tested]
    if len(known) > 2:
        pairs = [[one.row.accuracy for one in known], [one.accuracy for one in known]]
        lines += ["", f"Rank correlation of the accuracies: {stats.spearmanr(*pairs)[0]:.2f}"]
    lines += [f"Differs from the paper: {one}." for one in table.differs]
    return "\n".join(lines)


def _macs(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:.2f} M"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", nargs="?", choices=sorted(TABLES))
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
    if not args.table:
        parser.error("name a table; --list shows all")
    table = TABLES[args.table]
    text = table.text(args.scale, args.data, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(storage=Storage(folder=Path(args.folder or folder)))
        ours = trained(table, args.scale, text, settings, args.workers)
    print(printed(table, ours, args.scale))
    print(versions())


if __name__ == "__main__":
    main()
