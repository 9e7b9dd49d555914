"""How the front of a study grew from training to training: whether more trials are worth their time."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from search.front.pareto import hypervolume_history
from search.front.stored import StudyFront, study_costs
from search.objectives import Reference
from search.report.amounts import percent
from storage.records import StudyRecord, training_text

LAST = 20  # trainings that are spoken of at most: as many as `budget.plateau` looks back


def growth(record: StudyRecord, front: StudyFront) -> dict[str, Any]:
    """Hypervolume and points on the front after each training that ended, in that order, and its end in words."""
    reference, costs = Reference(**record.reference), study_costs(record)
    history = hypervolume_history(front.points, reference=reference, costs=costs)
    trainings = [one for one, _ in groupby(front.points, key=lambda p: p.training)]
    volumes = [volume for _, volume, _ in history]
    return {
        "trainings": [training_text(*one) for one in trainings],
        "hypervolume": volumes,
        "points": [count for _, _, count in history],
        "words": _words(volumes),
    }


def _words(volumes: list[float]) -> str:
    """What the last trainings added; nothing is said of fewer than two."""
    last = min(LAST, len(volumes) // 2)
    if not last or volumes[-1] <= 0:
        return ""
    grown = 1 - volumes[-1 - last] / volumes[-1]
    which = "the last training" if last == 1 else f"the last {last} trainings"
    added = f"{percent(grown)} of" if grown >= 0.0005 else "nothing to"
    return f"{which} added {added} the hypervolume"
