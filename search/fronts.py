"""A stored study's front, its other points, its plain nets and its hypervolume."""

from __future__ import annotations

from search.front import Cost, Point, Reference, front, hypervolume
from search.points import ON_OFFER, as_point, standing
from search.study_file import COSTS
from storage.records import PointRecord, StudyRecord
from storage.store import Store


def study_costs(record: StudyRecord) -> tuple[Cost, ...]:
    """The points' columns that the study minimises."""
    return tuple(COSTS[name] for name in record.spec["objectives"][1:])


def study_cost(record: StudyRecord) -> Cost:
    """The column that pictures show accuracy against, and that points are picked by."""
    return next(iter(study_costs(record)), "macs_mean")


def stored_point(store: Store, record: StudyRecord, point: Point) -> PointRecord:
    """The row of a front's point."""
    return next(p for p in store.points(record.name, kind=point.kind, number=point.trial) if p.id == point.id)


def study_front(
    store: Store, record: StudyRecord, family: str | None = None
) -> tuple[list[Point], list[Point], list[Point], float]:
    """(front, all points that may join it, points of plain nets, hypervolume); of one family alone if it is named.

    Plain nets that the study trained, to start from or for its ladder, are answers like any other: where no dynamic one
    beats them the front has them.
    Raises ValueError for a family that the study does not search.
    """
    if family is not None and family not in record.spec["families"]:
        raise ValueError(f"--family {family}: study {record.name} searches {', '.join(record.spec['families'])}")
    stored = [as_point(p) for p in store.points(record.name) if family in (None, p.family)]
    reference = Reference(**record.reference)
    points = standing([p for p in stored if p.kind in ON_OFFER], reference)
    static = [p for p in stored if p.kind == "static"]
    costs = study_costs(record)
    members = front(points, costs)
    volume = hypervolume(members, cost=costs, reference=reference) if members else 0.0
    return members, points, static, volume
