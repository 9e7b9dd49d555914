"""Inspecting a trained network of a study: which one, at which setting, and the files that come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.commands.choice import Choice, chosen
from search.commands.measured import measured
from search.inspection.measures import subtitle
from search.inspection.page import inspection_html
from search.inspection.pngs import inspection_pngs
from search.report.gate_rates import gate_rates_png
from search.report.text import knobs_text, network_text
from storage.records import EpochRecord, Kind, PointRecord, State, StudyRecord, training_text
from storage.settings import Settings
from storage.store import Store

PAGE = "inspect.html"
MEASURES = "inspect.json"  # what the pictures are drawn from


def chosen_point(
    store: Store,
    record: StudyRecord,
    *,
    training: tuple[Kind, int] | None = None,
    choice: Choice | None = None,
    knobs: dict[str, Any] | None = None,
) -> PointRecord:
    """The point of a training that represents it (or has these knobs), or the chosen one.

    Raises ValueError when there is none.
    """
    choice = choice or Choice()
    if training is None:
        return chosen(store, record, choice)
    if choice.is_given:
        raise ValueError(
            f"{training_text(*training)} is one training, {choice.words()} another choice: give either --trial or "
            "--pick, --max-macs, --min-accuracy, --family or --point"
        )
    kind, trial = training
    name = training_text(kind, trial)
    found = store.find_trial(record.name, kind, trial)
    if found is None or found.state not in (State.COMPLETE, State.STOPPED):
        state = "does not exist" if found is None else f"is {found.state}"
        raise ValueError(
            f"{name} {state} in study {record.name}; see dynafront status {record.name}"
        )
    source = trial if found.of_trial is None else found.of_trial
    points = store.points(record.name, kind=kind, number=source)
    if knobs is None:
        return next(p for p in points if p.chosen)
    same = [p for p in points if p.knobs == knobs]
    if not same:
        raise ValueError(
            f"{name} of study {record.name} has no such point any more; export the model again"
        )
    return same[0]


def inspect_point(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    folder: Path,
    say: Callable[[str], None],
) -> list[str]:
    """Measure the point's network on validation, write a page, the measures as JSON, and a PNG each.

    Returns lines that say what came out.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give --out a folder")
    found = measured(store, record, settings, point, say)
    trial = store.trial(record.name, point.kind, point.trial)
    network = network_text(trial.family, trial.params)
    training = training_text(trial.kind, trial.number)
    name = f"{record.name}, point {point.id}, {training}: {network}, {knobs_text(point.knobs)}"
    epochs = store.epochs(record.name, trial.kind, trial.number)
    drawn = inspection_pngs(found, name) | _gate_rates(f"{training}: gates of {network}", epochs)
    folder.mkdir(parents=True, exist_ok=True)
    for picture, png in drawn.items():
        (folder / f"{picture}.png").write_bytes(png)
    page = inspection_html(found, name, [(e.epoch, e.gate_rates) for e in epochs])
    (folder / PAGE).write_text(page, encoding="utf-8")
    (folder / MEASURES).write_text(json.dumps(found.as_dict()), encoding="utf-8")
    return [
        name,
        f"  {subtitle(found)}",
        f"  {folder / PAGE}",
        *(f"  {folder / one}.png" for one in drawn),
    ]


def _gate_rates(title: str, epochs: list[EpochRecord]) -> dict[str, bytes]:
    if not epochs or not epochs[-1].gate_rates:
        return {}
    by_gate = {
        name: [e.gate_rates.get(name, 0.0) for e in epochs] for name in epochs[-1].gate_rates
    }
    return {"gate_rates": gate_rates_png(title, [e.epoch for e in epochs], by_gate)}
