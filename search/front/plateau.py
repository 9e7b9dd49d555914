"""Whether a study ended because its front no longer grew, as `budget.plateau` of its file says."""

from __future__ import annotations

from collections import defaultdict

from search.front.live import LiveFront
from search.objectives import Reference
from search.spec import stored_spec
from storage.records import Kind, PointRecord, State, StudyRecord
from storage.store import Store

ENDED = (State.COMPLETE, State.STOPPED)


def at_plateau(store: Store, record: StudyRecord) -> bool:
    """Whether a search of the study would end at once. Reads all of its points, where its file has the key."""
    if not record.spec["budget"].get("plateau"):
        return False
    points = defaultdict[tuple[Kind, int], list[PointRecord]](list)
    for point in store.points(record.name, rates=False):
        points[point.training].append(point)
    front = LiveFront(stored_spec(record.spec), Reference(**record.reference))
    trials = [one for one in store.trials(record.name, results=False) if one.state in ENDED]
    for one in sorted(trials, key=lambda one: (one.finished_at or one.started_at, one.number)):
        if one.kind not in (Kind.BASELINE, Kind.SEARCH):
            continue
        source = one.number if one.of_trial is None else one.of_trial
        front.extend(
            (one.kind, one.number), points[one.kind, source], stopped=one.state == State.STOPPED
        )
    return front.plateau
