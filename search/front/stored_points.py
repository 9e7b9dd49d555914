"""A stored study's operating points, as its front needs them: the front is found from a few numbers of each point.

Shapes: P points, K costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.front.eligible import ON_OFFER, eligible
from search.front.pareto import Values, front, front_rows
from search.objectives import Cost, Costs, Reference
from spaces.contract.knobs import are_random
from storage import json_text
from storage.records import Kind, OperatingPoint, PointRecord, StudyRecord
from storage.store import Store

FIELDS = frozenset(field.name for field in fields(OperatingPoint))
RANDOM = ("knobs.policy", "knobs.order")  # what makes answers depend on a draw
LATEST = 100  # trainings whose points are read first: their front leaves few of the others
STEPS = 8  # of that front, that others are compared with while they are read


@dataclass(frozen=True)
class StoredPoints:
    """The points of one study; of one family alone if it is named; those of its cascades only with `cascades`.

    `known`: all stored points of the study, where they were read.
    """

    store: Store
    record: StudyRecord
    family: str | None = None
    cascades: bool = True
    known: Sequence[PointRecord] | None = None

    @property
    def reference(self) -> Reference:
        return Reference(**self.record.reference)

    def eligible(self) -> list[PointRecord]:
        """All points that may join the front, without the open rates of their gates."""
        read = self.known
        if read is None:
            read = self.store.points(self.record.name, rates=False)
        return eligible((p for p in read if self._is_offered(p)), self.reference)

    def baselines(self) -> list[PointRecord]:
        """The points of the static networks."""
        if self.known is None:
            read = self.store.points(self.record.name, kind=Kind.BASELINE)
        else:
            read = [p for p in self.known if p.kind == Kind.BASELINE]
        return [p for p in read if self.family in (None, p.family)]

    def front(self, costs: Costs) -> list[PointRecord]:
        """The eligible points that no other beats, cheapest first."""
        if self.known is not None:
            return front(self.eligible(), costs)
        ids, values = self._values(costs, latest=LATEST)
        if sum(self.store.trial_counts(self.record.name).values()) > LATEST:
            found = values[front_rows(values)]
            ids, values = self._values(costs, beaten_by=_steps(found, costs))
        members = [ids[i] for i in front_rows(values)]
        return self.store.points_by_id(self.record.name, members)

    def _values(self, costs: Costs, **which: Any) -> tuple[list[int], Values]:
        """The ids of points on offer, their accuracy and costs; those that are not eligible are not finite.

        `which` of them, see Store.point_values.
        """
        kinds = [kind for kind in ON_OFFER if self.cascades or kind != Kind.CASCADE]
        names = [*RANDOM, "accuracy", *map(_column, costs)]
        rows = self.store.point_values(
            self.record.name, names, kinds=kinds, family=self.family, **which
        )
        if not rows:
            return [], np.empty((0, 1 + len(costs)))
        ids, policies, orders, *columns = zip(*rows, strict=True)
        values = np.array([_numbers(column) for column in columns]).T
        knobs = zip(policies, orders, strict=True)
        drawn = [are_random({"policy": policy, "order": order}) for policy, order in knobs]
        values[drawn | (values[:, 0] <= self.reference.accuracy)] = np.nan
        return list(ids), values

    def _is_offered(self, p: PointRecord) -> bool:
        return (
            p.kind in ON_OFFER
            and (self.cascades or p.kind != Kind.CASCADE)
            and self.family in (None, p.family)
        )


def _column(cost: Cost) -> str:
    return cost.column if cost.column in FIELDS else f"extra.{cost.column}"


def _steps(found: Values, costs: Costs) -> list[tuple[float, dict[str, float]]]:
    """A few points of a front, evenly; none where a cost has no column of its own."""
    if not len(found) or any(cost.column not in FIELDS for cost in costs):
        return []
    chosen = np.unique(np.linspace(0, len(found) - 1, STEPS).round().astype(int))
    names = [cost.column for cost in costs]
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in found[chosen].tolist()]


def _numbers(column: Sequence[Any]) -> NDArray[np.float64]:
    """(P,) of a column of the tables, or of what stands in JSON, which is text in some databases."""
    if any(isinstance(one, str) for one in column):
        column = [json_text.loads(one) if isinstance(one, str) else one for one in column]
    return np.array(column, dtype=np.float64)  # None becomes NaN
