"""What the pages show of trainings: a row for each, and one of them with its curves and its failures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from search.commands.status import INTERRUPTED
from search.commands.trace import as_dicts, trace_name
from search.front.stored import StudyFront, study_cost
from search.report.text import knobs_text, network_text
from search.run.lease import is_driven
from search.service.axes import latencies
from search.service.drawn import drawn
from storage.records import (
    EpochRecord,
    Kind,
    PointRecord,
    State,
    StudyRecord,
    TrialRecord,
    training_text,
)
from storage.store import Store

# a chart for each, of measures that an epoch has: the word for the line, and the measure
CHARTS = {
    "loss": {"training": "train/loss"},
    "accuracy": {"training": "train/accuracy", "validation": "val/accuracy"},
    "MACs an image": {"training": "train/macs", "validation": "val/macs"},
}
ACCURACY = "accuracy"


def trials(store: Store, record: StudyRecord, front: StudyFront) -> list[dict[str, Any]]:
    """A row for each training, in the order of their numbers."""
    best: dict[tuple[Kind, int], PointRecord] = {}
    for p in (*front.points, *front.baselines):
        if p.training not in best or p.accuracy > best[p.training].accuracy:
            best[p.training] = p
    on_front = {p.training for p in front.members}
    driven = is_driven(record)
    return [
        _row(t, best.get((t.kind, t.number)), driven) | {"on_front": (t.kind, t.number) in on_front}
        for t in store.trials(record.name, results=False)
    ]


def trial(
    store: Store, record: StudyRecord, front: StudyFront, kind: str, number: int
) -> dict[str, Any]:
    """One training: its settings, its curves by epoch, its points, every attempt that went wrong. Raises ValueError."""
    if kind not in set(Kind):
        raise ValueError(f"{kind!r} is no kind of training; give one of {', '.join(Kind)}")
    found = store.find_trial(record.name, Kind(kind), number)
    if found is None:
        raise ValueError(f"there is no {training_text(Kind(kind), number)} in {record.name}")
    cost, known = study_cost(record), latencies(store, record.name)
    own = {p.id: p for p in (*front.points, *front.baselines) if p.training == (found.kind, number)}
    points = sorted(own.values(), key=cost.of)
    best = max(points, key=lambda p: p.accuracy, default=None)
    members = {p.id for p in front.members}
    failures = [
        one
        for one in store.failures(record.name)
        if (one.kind, one.trial) == (found.kind, found.number)
    ]
    epochs = store.epochs(record.name, found.kind, number)
    return _row(found, best, is_driven(record)) | {
        "on_front": any(p.id in members for p in points),
        "params": {key: str(value) for key, value in found.params.items()},
        "seed": found.seed,
        "epochs_done": len(epochs),
        "started": found.started_at.isoformat(),
        "charts": charts(epochs, metric_name(record)),
        "gates": _gates(epochs),
        "points": [drawn(p, known) | {"on_front": p.id in members} for p in points],
        "stopped_at": found.result.get("stopped_at"),
        "failures": as_dicts(failures),
        "commands": list(_commands(record, found, failures)),
        "experiment_id": record.experiment_id,
    }


def metric_name(record: StudyRecord) -> str:
    """What the study maximises."""
    return str(record.spec["objectives"][0])


def charts(epochs: Sequence[EpochRecord], metric: str) -> list[dict[str, Any]]:
    """A chart for each group of measures that the epochs have: name, epochs, values by line."""
    groups = dict(CHARTS)
    if metric != ACCURACY:
        groups = {"loss": CHARTS["loss"], metric: {"validation": f"val/{metric}"}} | groups
    found = []
    for name, lines in groups.items():
        values = {line: _values(epochs, measure) for line, measure in lines.items()}
        values = {line: one for line, one in values.items() if any(v is not None for v in one)}
        if values:
            found.append({"name": name, "epochs": [e.epoch for e in epochs], "lines": values})
    return found


def _values(epochs: Iterable[EpochRecord], measure: str) -> list[float | None]:
    values = (epoch.metrics.get(measure) for epoch in epochs)
    return [value if value is not None and isfinite(value) else None for value in values]


def _gates(epochs: Sequence[EpochRecord]) -> dict[str, list[float | None]]:
    """Open rates by gate, one value an epoch."""
    names: Mapping[str, float] = epochs[-1].gate_rates if epochs else {}
    return {name: [epoch.gate_rates.get(name) for epoch in epochs] for name in names}


def _commands(
    record: StudyRecord, found: TrialRecord, failures: Sequence[object]
) -> Iterable[tuple[str, str]]:
    """(what for, the command line) of what can be done with the training."""
    name = shlex.quote(record.name)
    if failures:
        which = trace_name(found.kind, found.number)
        yield "the traceback", f"dynafront status {name} --trace {which}"
    if found.state == State.FAILED and found.kind == Kind.SEARCH:
        yield (
            "train the failed trials again, with the file of the study",
            f"dynafront search {shlex.quote(record.name + '.yml')} --retry-failed",
        )
    if found.state in (State.COMPLETE, State.STOPPED) and found.kind == Kind.SEARCH:
        yield "pictures of what it does", f"dynafront inspect {name} --trial {found.number}"


def _row(t: TrialRecord, best: PointRecord | None, driven: bool) -> dict[str, Any]:
    interrupted = t.state == State.RUNNING and not driven
    return {
        "name": training_text(t.kind, t.number),
        "kind": t.kind,
        "number": t.number,
        "state": INTERRUPTED if interrupted else t.state,
        "network": network_text(t.family, t.params),
        "point": best.id if best else None,
        "knobs": knobs_text(best.knobs) if best else "",
        "accuracy": best.accuracy if best else None,
        "macs_mean": best.macs_mean if best else None,
        "epochs": t.epochs,
        "seconds": t.seconds,
        "error": t.error,
        "run_id": t.run_id,
    }
