"""A stored study's front, its other points, its static ladder and its hypervolume."""

from __future__ import annotations

from search.driver import as_point, standing
from search.front import Cost, Point, Reference, front, hypervolume
from storage.records import StudyRecord
from storage.store import Store


def study_cost(record: StudyRecord) -> Cost:
    """The points' column that the study minimises."""
    return "macs_p95" if record.spec["objectives"][1] == "macs_p95" else "macs_mean"


def study_front(
    store: Store, record: StudyRecord, family: str | None = None
) -> tuple[list[Point], list[Point], list[Point], float]:
    """(front, all points that may join it, points of plain nets, hypervolume); of one family alone if it is named.

    Raises ValueError for a family that the study does not search.
    """
    if family is not None and family not in record.spec["families"]:
        raise ValueError(f"--family {family}: study {record.name} searches {', '.join(record.spec['families'])}")
    stored = [as_point(p) for p in store.points(record.name) if family in (None, p.family)]
    reference = Reference(**record.reference)
    points = standing([p for p in stored if p.kind == "search"], reference)
    static = [p for p in stored if p.kind == "static"]
    cost = study_cost(record)
    members = front(points, cost)
    volume = hypervolume(members, cost=cost, reference=reference) if members else 0.0
    return members, points, static, volume
