"""A stored study's front, its other points, its baselines and its hypervolume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search.front.comparison import better_than_majority
from search.front.offer import NO_BOUNDS, Offer, budget_of, offer_of
from search.front.pareto import hypervolume
from search.front.stored_points import StoredPoints
from search.front.within import Bounds
from search.objectives import COSTS, MACS, Cost
from storage.records import PointRecord, StudyRecord
from storage.store import Store

WORTH_TELLING = 1.5  # times the accuracy of guessing


def study_costs(record: StudyRecord) -> tuple[Cost, ...]:
    """What the study minimises."""
    return tuple(COSTS[name] for name in record.spec["objectives"][1:])


def study_cost(record: StudyRecord) -> Cost:
    """What pictures show accuracy against, and points are picked by."""
    return next(iter(study_costs(record)), MACS)


def study_majority(store: Store, record: StudyRecord) -> float | None:
    """The accuracy of always answering the largest class, where that says more than the accuracy of guessing.

    None for even classes, and for a study from before it was kept.
    """
    share = majority_share(store, record)
    return share if share > WORTH_TELLING * record.reference["accuracy"] else None


def majority_share(store: Store, record: StudyRecord) -> float:
    """The accuracy of always answering the most frequent class; of guessing, for a study from before it was kept."""
    guessing = float(record.reference["accuracy"])
    return max(guessing, store.data(record.name).get("majority") or 0.0)


@dataclass(frozen=True)
class StudyFront:
    """The front of a stored study, and what surrounds it.

    `members`: cheapest first, all better than always answering the most frequent class. `volume`: the hypervolume of
    all points, at the study's reference point. `read`: how all points that may join it are read. `budget`: the highest
    cost that the study's file allows.
    """

    members: list[PointRecord]
    baselines: list[PointRecord]
    volume: float
    read: Callable[[], list[PointRecord]] = field(repr=False, compare=False)
    cost: Cost = MACS
    budget: Bounds = NO_BOUNDS

    @cached_property
    def points(self) -> list[PointRecord]:
        """All points that may join the front, without the open rates of their gates.

        Of a large study that takes seconds, and nearly nobody needs them.
        """
        return self.read()

    def shown(self, majority: float | None) -> dict[str, Any]:
        """What pictures of the front take beside its points, by the names of their arguments."""
        return {
            "front": self.members,
            "baselines": self.baselines,
            "hypervolume": self.volume,
            "cost": self.cost,
            "majority": majority,
            "offer": self.offer,
        }

    @cached_property
    def offer(self) -> Offer:
        """The point that is exported where no other is asked for."""
        return offer_of(self.members, self.baselines, self.cost, self.budget)


def study_front(
    store: Store,
    record: StudyRecord,
    family: str | None = None,
    *,
    known: Sequence[PointRecord] | None = None,
    cascades: bool = True,
) -> StudyFront:
    """The study's front; of one family alone if it is named. With `cascades`, those of its networks too.

    Baselines that the study trained may be on it: they are where no dynamic network beats them. Members and baselines
    have which images they answer rightly, as far as that was kept. `known`: all stored points, where they were read;
    without them only what the front needs of each is read.
    Raises ValueError for a family that the study does not search.
    """
    if family is not None and family not in record.spec["families"]:
        raise ValueError(
            f"--family {family}: study {record.name} searches {', '.join(record.spec['families'])}"
        )
    stored, costs = StoredPoints(store, record, family, cascades, known), study_costs(record)
    whole = stored.front(costs)
    members = better_than_majority(whole, majority_share(store, record))
    return StudyFront(
        store.with_answers(members),
        store.with_answers(stored.baselines()),
        hypervolume(whole, costs=costs, reference=stored.reference),
        stored.eligible,
        study_cost(record),
        budget_of(record.spec),
    )
