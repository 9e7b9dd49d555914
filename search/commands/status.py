"""How far studies are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from search.front.stored import study_front
from storage.records import Kind, State, StudyRecord, training_text
from storage.store import Store

SHOWN = 5  # failures
STATES = {
    State.COMPLETE: "complete",
    State.STOPPED: "stopped early",
    State.FAILED: "failed",
    State.RUNNING: "running",
}


def statuses(store: Store, name: str | None = None) -> list[dict[str, Any]]:
    """One entry a study. Raises ValueError for a name that is not known."""
    if name is None:
        return [_status(store, record) for record in store.studies()]
    record = store.find_study(name)
    if record is None:
        known = ", ".join(s.name for s in store.studies()) or "none yet"
        raise ValueError(f"there is no study {name}; known: {known}")
    return [_status(store, record)]


def as_text(one: dict[str, Any]) -> str:
    """A few lines for people."""
    trials = one["trials"]
    by_state = trials["by_state"]
    states = ", ".join(
        f"{by_state[state]} {word}" for state, word in STATES.items() if state in by_state
    )
    lines = [
        f"{one['study']}: {one['state']}",
        f"  trials   {states or 'none started'}, of {trials['budget']}; baselines: {trials['static']}",
        f"  time     {one['seconds'] / 60:.1f} min spent"
        + (f", about {one['eta_seconds'] / 60:.0f} min left" if one["eta_seconds"] else ""),
        f"  front    {one['front']['points']} points, hypervolume {one['front']['hypervolume']:.4f}",
    ]
    for running in one["running"]:
        name = training_text(running["kind"], running["trial"])
        lines.append(f"  running  {name}: epoch {running['epoch']} of {running['epochs']}")
    for exported in one["exports"]:
        lines.append(f"  exported {exported['pick']}: {exported['model'] or exported['folder']}")
    lines += _failures(one["study"], one["failures"])
    return "\n".join(lines)


def _failures(study: str, failures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The last failures, how many there were before, and how to see more of the last."""
    if not failures:
        return
    if len(failures) > SHOWN:
        yield f"  failed   {len(failures)} trials, the last {SHOWN}:"
    for failure in failures[-SHOWN:]:
        yield f"  failed   trial {failure['trial']}: {failure['error']}"
    yield f"  trace    dynafront status {study} --trace {failures[-1]['trial']}"


def _status(store: Store, record: StudyRecord) -> dict[str, Any]:
    trials = store.trials(record.name)
    searched = [t for t in trials if t.kind == Kind.SEARCH]
    states = Counter(t.state for t in searched)
    budget = record.spec["budget"]["trials"]
    driven = record.owner is not None and (record.lease_until or 0) > time.time()
    done = states[State.COMPLETE] + states[State.STOPPED] + states[State.FAILED]
    members, _, _, volume = study_front(store, record)
    left = max(0, budget - done)
    return {
        "study": record.name,
        "state": "searching"
        if driven
        else "finished"
        if done >= budget
        else "stopped; search again to go on",
        "trials": {
            "budget": budget,
            "by_state": dict(states),
            "static": sum(t.kind == Kind.BASELINE and t.state == State.COMPLETE for t in trials),
        },
        "seconds": record.seconds_spent,
        "eta_seconds": record.seconds_spent / done * left if done and driven else None,
        "front": {"points": len(members), "hypervolume": volume},
        "running": [
            {
                "trial": t.number,
                "kind": t.kind,
                "epoch": len(store.epochs(record.name, t.kind, t.number)),
                "epochs": t.epochs,
            }
            for t in trials
            if t.state == State.RUNNING
        ],
        "exports": [
            {"pick": export.pick, "folder": export.folder, "model": export.model_uri}
            for export in store.exports(record.name)
        ],
        "failures": [
            {"trial": t.number, "error": t.error} for t in searched if t.state == State.FAILED
        ],
    }
