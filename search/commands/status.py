"""How far studies are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search.front.plateau import at_plateau
from search.front.stored import StudyFront, study_front
from search.run.lease import is_driven
from storage.places import place_text
from storage.records import Kind, State, StudyRecord, TrialRecord, training_text
from storage.store import Store

SHOWN = 5  # failures
STATES = {
    State.COMPLETE: "complete",
    State.STOPPED: "stopped early",
    State.FAILED: "failed",
    State.RUNNING: "running",
}
INTERRUPTED = "interrupted"  # what a running trial is called while nobody drives the study


def statuses(store: Store, name: str | None = None, folder: Path = Path()) -> list[dict[str, Any]]:
    """One entry a study; `folder` is the data folder. Raises ValueError for a name that is not known."""
    if name is None:
        return [
            status(store, record, study_front(store, record), folder) for record in store.studies()
        ]
    record = store.find_study(name)
    if record is None:
        known = ", ".join(s.name for s in store.studies()) or "none yet"
        raise ValueError(f"there is no study {name}; known: {known}")
    return [status(store, record, study_front(store, record), folder)]


def as_text(one: dict[str, Any], disk: str = "") -> str:
    """A few lines for people; `disk` is what its checkpoints take, in words."""
    trials = one["trials"]
    by_state = trials["by_state"]
    words = {str(state): word for state, word in STATES.items()} | {INTERRUPTED: INTERRUPTED}
    states = ", ".join(
        f"{by_state[state]} {word}" for state, word in words.items() if state in by_state
    )
    lines = [
        f"{one['study']}: {one['state']}",
        f"  trials   {states or 'none started'}, of {trials['budget']}; baselines: {trials['static']}",
        f"  time     {one['seconds'] / 60:.1f} min spent"
        + (f", about {one['eta_seconds'] / 60:.0f} min left" if one["eta_seconds"] else ""),
        f"  front    {one['front']['points']} points, hypervolume {one['front']['hypervolume']:.4f}",
    ]
    if disk:
        lines.append(f"  disk     {disk}")
    for word in (State.RUNNING, INTERRUPTED):
        for under_way in one[word]:
            name = training_text(under_way["kind"], under_way["trial"])
            done, epochs = under_way["epoch"], under_way["epochs"]
            # before it, a frozen trunk may read all images
            far = f"epoch {done} of {epochs}" if done else f"in its first epoch of {epochs}"
            lines.append(f"  {word:<8} {name}: {far}")
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


def status(
    store: Store,
    record: StudyRecord,
    front: StudyFront,
    folder: Path = Path(),
) -> dict[str, Any]:
    """How far a study is whose front is known; `folder` is the data folder."""
    counts = store.trial_counts(record.name)
    states = {state: counts.get((Kind.SEARCH, state), 0) for state in State}
    budget = record.spec["budget"]["trials"]
    driven = is_driven(record)
    done = states[State.COMPLETE] + states[State.STOPPED] + states[State.FAILED]
    left = max(0, budget - done)
    under_way = store.trials(record.name, state=State.RUNNING, results=False)
    running = [_under_way(store, t) for t in under_way]
    finished = done >= budget or (not driven and not running and at_plateau(store, record))
    by_state = {str(state): count for state, count in states.items() if count}
    if not driven and State.RUNNING in by_state:
        by_state[INTERRUPTED] = by_state.pop(State.RUNNING)
    return {
        "study": record.name,
        "state": _state(driven, finished, bool(running), _out_of_time(record)),
        "trials": {
            "budget": budget,
            "by_state": by_state,
            "static": counts.get((Kind.BASELINE, State.COMPLETE), 0),
        },
        "seconds": record.seconds_spent,
        "eta_seconds": record.seconds_spent / done * left if done and driven else None,
        "front": {"points": len(front.members), "hypervolume": front.volume},
        State.RUNNING: running if driven else [],
        INTERRUPTED: [] if driven else running,
        "exports": [
            {
                "pick": export.pick,
                "folder": place_text(export.folder, folder),
                "model": export.model_uri,
            }
            for export in store.exports(record.name)
        ],
        "failures": [
            {"trial": t.number, "error": t.error}
            for t in store.trials(record.name, Kind.SEARCH, State.FAILED, results=False)
        ],
    }


def _out_of_time(record: StudyRecord) -> bool:
    hours = record.spec["budget"].get("hours")
    return hours is not None and record.seconds_spent >= 3600 * hours


def _state(driven: bool, finished: bool, under_way: bool, out_of_time: bool) -> str:
    if driven:
        return "searching"
    if out_of_time and not finished:
        return "out of time; raise budget.hours and search again to go on"
    if under_way:
        return "interrupted; search again to go on"
    return "finished" if finished else "stopped; search again to go on"


def _under_way(store: Store, trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "epoch": len(store.epochs(trial.study, trial.kind, trial.number)),
        "epochs": trial.epochs,
    }
