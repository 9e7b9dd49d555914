"""The front in MLflow: the note of the study's run, and the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from search.front.formats import leaves
from search.front.metric import metric_of
from search.front.offer import Offer, offer_of
from search.objectives import MACS, Cost, macs_text
from search.report.amounts import percent
from search.report.front_points import evenly
from search.report.front_table import latency_cells, latency_columns
from search.report.front_text import about, offer_text, summary
from search.report.text import markdown_text, readable_knobs
from storage.records import LATENCIES, TIMED, TIMED_STATIC, PointRecord

STRIP = "pareto/strip.png"  # MLflow shows about 100 pixels of a note until somebody asks for more
NOTE_BYTES = 7_900  # MLflow cuts a run's tag at 8,000


def front_table(points: Iterable[PointRecord], cost: Cost = MACS) -> dict[str, list[Any]]:
    """The front as MLflow shows tables: {"columns": [...], "data": [[...]]}, the cheapest first."""
    points = sorted(points, key=cost.of)
    columns = ["trial", "id", "family", "accuracy", "accuracy_low", "accuracy_high"]
    columns += ["macs_mean", "macs_p95", "macs_max", "parameters"]
    names = (*LATENCIES, TIMED, TIMED_STATIC)
    times = [name for name in names if any(name in p.extra for p in points)]
    data = [
        [
            *(getattr(p, c) for c in columns),
            *(p.extra.get(name) for name in times),
            _settings(readable_knobs(p.knobs)),
            _settings(p.params),
            p.run_id or "",
        ]
        for p in points
    ]
    own = metric_of(points).name
    shown = ["point" if column == "id" else column.replace("accuracy", own) for column in columns]
    return {"columns": [*shown, *times, "knobs", "params", "run_id"], "data": data}


def note(
    study: str,
    points: Sequence[PointRecord],
    front: Sequence[PointRecord],
    *,
    run_id: str,
    links: Mapping[int, str],
    baselines: Sequence[PointRecord] = (),
    hypervolume: float | None = None,
    views: Mapping[str, str] | None = None,
    cost: Cost = MACS,
    majority: float | None = None,
    offer: Offer | None = None,
) -> str:
    """Markdown for the study's MLflow run: a strip of the front, a summary, the front as a table and as a picture.

    `links` has the address of a point's run by the point's id, `views` names further addresses beside the summary.
    `offer` is what the study offers, by default the cheapest point that is as good as the best.
    When it gets longer than MLflow keeps, rows are left out evenly, but never the cheapest and the best.
    """
    first = f"**{markdown_text(summary(study, front, baselines, cost=cost))}**"
    for name, address in (views or {}).items():
        first += f" · [{markdown_text(name)}]({address})"
    strip, picture = (_picture(path, run_id) for path in (STRIP, "pareto/front.png"))
    head = f"{strip}\n\n{first}\n\n" if front else f"{first}\n\n"
    if hypervolume is not None:
        head += f"{about(points, hypervolume, majority)}\n\n"
    if front:
        head += f"{offer_text(offer or offer_of(front, baselines, cost), cost)}: `dynafront export {study}`\n\n"
    timed = latency_columns(front)
    rows = [_note_row(p, links.get(p.id or 0), timed) for p in front]
    return _fitting(head + _note_heads(metric_of(front).label, timed), rows, picture)


def _note_heads(metric: str, timed: Sequence[str]) -> str:
    columns = ["point", "trial", "family", metric, "95 % interval"]
    columns += ["MACs mean", "MACs p95", "parameters", *timed, "knobs"]
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"


def _fitting(head: str, rows: Sequence[str], picture: str) -> str:
    """The note with as many rows as MLflow keeps of it."""
    # no need to try more rows than would fit if all were as short as the shortest
    fitting = min(len(rows), NOTE_BYTES // min(map(len, rows), default=NOTE_BYTES))
    for kept in range(fitting, -1, -1):
        left_out = len(rows) - kept
        body = "".join(rows[i] for i in evenly(len(rows), kept))
        tail = f"\n{picture}\n"
        if left_out:
            which = f"{left_out} of {len(rows)} rows are left out here; pareto/front.csv has all."
            tail = f"\n{which}\n{tail}"
        if len((head + body + tail).encode()) <= NOTE_BYTES:
            return head + body + tail
    return head[: NOTE_BYTES // 4]


def _picture(path: str, run_id: str) -> str:
    return f"![front](/get-artifact?path={quote(path, safe='')}&run_uuid={run_id})"


def _note_row(p: PointRecord, address: str | None, timed: Sequence[str]) -> str:
    trial = f"[{p.name}]({address})" if address else p.name
    interval = f"{percent(p.accuracy_low)} to {percent(p.accuracy_high)}"
    costs = [macs_text(v) for v in (p.macs_mean, p.macs_p95, p.parameters)]
    times = latency_cells(p)
    costs += [times[name] for name in timed]
    knobs = markdown_text(_settings(readable_knobs(p.knobs)))
    knobs = knobs if len(knobs) <= 120 else knobs[:117] + "..."
    point = "" if p.id is None else str(p.id)
    cells = [point, trial, markdown_text(p.family), percent(p.accuracy, 2), interval, *costs, knobs]
    return f"| {' | '.join(cells)} |\n"


def _settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in leaves(values).items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
