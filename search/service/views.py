"""What the pages show, as plain values read from our tables: studies, the points of one, answers to a budget."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.commands.status import status
from search.front.comparison import better_than_majority
from search.front.flattery import flattery
from search.front.pareto import front as front_of
from search.front.stored import (
    StudyFront,
    majority_share,
    study_cost,
    study_front,
    study_majority,
)
from search.front.stored_points import StoredPoints
from search.objectives import Cost
from search.report.front_points import points_to_draw, thinned
from search.report.front_text import standing, summary
from search.run.lease import is_driven
from search.service.answers import answer
from search.service.axes import axes, has, latencies
from search.service.drawn import columns, drawn
from search.service.kept_answers import kept
from search.service.known_points import KnownPoints
from search.service.point_words import point_words, shares_by_exit
from spaces.contract.declarations import declaration
from storage.records import Kind, PointRecord, StudyRecord, TrialRecord, training_text
from storage.store import Store

MOST_OTHERS = 10_000  # points off the front that are drawn
SMALL = 60  # points of a small front on a card


class Views:
    """Reads for pages. A study's front is made again only when its tables have changed."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._front = kept(16, self._made)
        self._along = kept(64, self._made_along)
        self._trials = kept(16, self._read_trials)
        self._points = KnownPoints(store)

    def stamp(self, name: str) -> str:
        """Another text whenever what is shown of a study has changed. Raises ValueError where there is none."""
        driven = is_driven(self.record(name))
        return f"{self.store.stamp(name)}-{len(self.store.exports(name))}{'-driven' * driven}"

    def studies(self) -> list[dict[str, Any]]:
        """A card each, the newest first."""
        return [self._card(record) for record in reversed(self.store.studies())]

    def study(self, name: str) -> dict[str, Any]:
        """State, title and axes of one study."""
        record, front = self.known(name)
        cost, known = study_cost(record), self._axes(name)
        return self._status(record, front) | {
            "title": summary(name, front.members, front.baselines, cost=cost),
            "cost": cost.name,
            "axes": {one.name: one.label for one in known.values()},
            "columns": {one.name: one.column for one in known.values()},
            "majority": study_majority(self.store, record),
            "budget": front.budget.by_column(cost),
            "experiment_id": record.experiment_id,
            "run_id": record.run_id,
            "file": record.text,
        }

    def points(self, name: str) -> dict[str, Any]:
        """The front, the baselines, and the other points, evenly thinned to what can be drawn."""
        record, front = self.known(name)
        cost, known = study_cost(record), latencies(self.store, name)
        cloud, members, baselines = points_to_draw(
            front.points, front.members, front.baselines, cost
        )
        others = thinned(cloud, MOST_OTHERS)
        offered = front.offer.point
        flattered = flattery(members)
        return {
            "front": [
                drawn(p, known)
                | {"standing": standing(p, baselines, cost, flattered.get(p.kind, 0.0)).name}
                for p in members
            ],
            "baselines": [drawn(p, known) for p in baselines],
            "others": columns(others) | {"latency_ms": [known.get(p.id or 0) for p in others]},
            "left_out": len(cloud) - len(others),
            "efficient": None if offered is None else offered.id,
        }

    def point(self, name: str, identifier: int) -> dict[str, Any]:
        """One point: what it is, its trial's other settings, and the baseline of equal cost beside it."""
        record, front = self.known(name)
        p = self.found(name, identifier)
        trial = self.store.trial(name, *p.training)
        cost, known = study_cost(record), latencies(self.store, name)
        beside = _rival(p, front.baselines, cost)
        flattered = flattery(front.members).get(p.kind, 0.0)
        own = sorted(
            (q for q in (*front.points, *front.baselines) if q.training == p.training), key=cost.of
        )
        exits = shares_by_exit(p)
        return drawn(p, known) | {
            "training": training_text(*p.training),
            "words": point_words(p, _static_of(p, front.baselines)),
            "params": {key: str(value) for key, value in p.params.items()},
            "curve": [drawn(q, known) for q in {q.id: q for q in own}.values()],
            "exits": list(exits.values()),
            "exit_names": list(exits),
            "beside": drawn(beside, known) if beside else None,
            "standing": standing(p, [beside] if beside else [], cost, flattered).name,
            "export": f"dynafront export {shlex.quote(name)} --point {identifier}",
            "experiment_id": record.experiment_id,
            "run_id": trial.run_id,
        }

    def answer(self, name: str, budget: str, axis: str | None = None) -> dict[str, Any]:
        """The most accurate point within a budget, in words; `axis` is the study's own cost where it is left out."""
        record, front = self.known(name)
        cost = self._axis(name, axis) if axis else study_cost(record)
        along = self._along(name, self.stamp(name), cost.name)
        return answer(self.store, along, front.baselines, cost, budget)

    def found(self, name: str, identifier: int) -> PointRecord:
        """The point of a study by its id. Raises ValueError where the study shows none."""
        _, front = self.known(name)
        shown = {p.id for p in (*front.members, *front.baselines, *front.points)}
        found = self.store.points_by_id(name, [identifier]) if identifier in shown else []
        if not found:
            raise ValueError(
                f"study {name} shows no point {identifier}; it may have left the front"
            )
        return self.store.with_answers(found)[0]

    def training(self, name: str, identifier: int) -> tuple[StudyRecord, TrialRecord, PointRecord]:
        """A point by its id, with its training and its study. Raises ValueError."""
        record, p = self.record(name), self.found(name, identifier)
        return record, self.store.trial(name, *p.training), p

    def known(self, name: str) -> tuple[StudyRecord, StudyFront]:
        """A study and its front. Raises ValueError where there is none of this name."""
        record = self.record(name)
        return record, self._front(name, self.store.stamp(name))

    def record(self, name: str) -> StudyRecord:
        """A study. Raises ValueError where there is none of this name."""
        if (record := self.store.find_study(name)) is None:
            raise ValueError(f"there is no study {name}")
        return record

    def _card(self, record: StudyRecord) -> dict[str, Any]:
        (record, front), cost = self.known(record.name), study_cost(record)
        small = thinned(front.members, SMALL)
        best = max((p.accuracy for p in front.members), default=None)
        return self._status(record, front) | {
            "best_accuracy": best,
            "small": [[cost.of(p), p.accuracy] for p in small],
            "created_at": record.created_at.isoformat(),
        }

    def _status(self, record: StudyRecord, front: StudyFront) -> dict[str, Any]:
        return status(self.store, record, front, self.folder)

    def _read_trials(self, name: str, _: str) -> list[TrialRecord]:
        return self.store.trials(name, results=False)

    def _axes(self, name: str) -> dict[str, Cost]:
        return axes(latencies(self.store, name), self.record(name).spec)

    def _axis(self, name: str, axis: str) -> Cost:
        known = self._axes(name)
        if axis not in known:
            raise ValueError(f"{axis!r} is no cost; choose one of {', '.join(known)}")
        return known[axis]

    def _made(self, name: str, stamp: str) -> StudyFront:
        """Reads all points only where that was done before: the list of studies shows fronts alone."""
        record, trials = self.store.study(name), self._trials(name, stamp)
        if self._points.has(name):
            return study_front(self.store, record, known=self._points.of(name, trials))

        def read() -> list[PointRecord]:
            return StoredPoints(self.store, record, known=self._points.of(name, trials)).eligible()

        return replace(study_front(self.store, record), read=read)

    def _made_along(self, name: str, _: str, axis: str) -> list[PointRecord]:
        """The front of accuracy and one cost alone, the cheapest first; like the study's without what guessing has."""
        record, front = self.known(name)
        cost, majority = self._axis(name, axis), majority_share(self.store, record)
        return better_than_majority(
            front_of((p for p in front.points if has(cost, p)), (cost,)), majority
        )


def _static_of(p: PointRecord, baselines: Sequence[PointRecord]) -> PointRecord | None:
    """The static network of the point's own size, where the study trained it."""
    if p.kind == Kind.CASCADE:
        return None
    sizes = declaration(p.family).size_dimensions
    return next(
        (
            b
            for b in baselines
            if b.family == p.family and all(b.params.get(key) == p.params.get(key) for key in sizes)
        ),
        None,
    )


def _rival(p: PointRecord, baselines: Sequence[PointRecord], cost: Cost) -> PointRecord | None:
    """The most accurate baseline of no more cost; where none is so cheap the cheapest."""
    others = [b for b in baselines if b.id != p.id]
    within = [b for b in others if cost.of(b) <= cost.of(p)]
    if within:
        return max(within, key=lambda b: b.accuracy)
    return min(others, key=cost.of, default=None)
