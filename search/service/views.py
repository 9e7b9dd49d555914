"""What the pages show, as plain values read from our tables: studies, the points of one, answers to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from search.commands.status import status
from search.front.comparison import better
from search.front.pareto import front as front_of
from search.front.pick import DEFAULT, pick
from search.front.stored import StudyFront, study_cost, study_front, study_majority
from search.objectives import COSTS, Cost, macs_number, macs_text
from search.report.amounts import percent
from search.report.front_points import points_to_draw, thinned
from search.report.front_text import standing, summary
from search.report.text import knobs_text, network_text
from storage.records import Kind, PointRecord, StudyRecord, TrialRecord, training_text
from storage.store import Store

MOST_OTHERS = 3_000  # points off the front that are drawn
SMALL = 60  # points of a small front on a card
NUMBERS = ("accuracy", "accuracy_low", "accuracy_high", "macs_mean", "macs_p95", "macs_max")


class Views:
    """Reads for pages. A study's front is made again only when its tables have changed."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._front = lru_cache(maxsize=16)(self._made)

    def stamp(self, name: str) -> str:
        """Another text whenever what is shown of a study has changed. Raises ValueError where there is none."""
        self._record(name)
        return self.store.stamp(name)

    def studies(self) -> list[dict[str, Any]]:
        """A card each, the newest first."""
        return [self._card(record) for record in reversed(self.store.studies())]

    def study(self, name: str) -> dict[str, Any]:
        """State, title and axes of one study."""
        record, front = self._known(name)
        cost = study_cost(record)
        return status(self.store, record, front, self.folder) | {
            "title": summary(name, front.members, front.baselines, cost=cost),
            "cost": cost.name,
            "axes": {one.name: one.label for one in COSTS.values()},
            "majority": study_majority(self.store, record),
            "experiment_id": record.experiment_id,
            "run_id": record.run_id,
            "file": record.text,
        }

    def points(self, name: str) -> dict[str, Any]:
        """The front, the baselines, and the other points, evenly thinned to what can be drawn."""
        record, front = self._known(name)
        cost = study_cost(record)
        cloud, members, baselines = points_to_draw(
            front.points, front.members, front.baselines, cost
        )
        kept = thinned(cloud, MOST_OTHERS)
        efficient = pick(members, DEFAULT, cost=cost).id if members else None
        return {
            "front": [_drawn(p) | {"standing": standing(p, baselines, cost).name} for p in members],
            "baselines": [_drawn(p) for p in baselines],
            "others": [_drawn(p) for p in kept],
            "left_out": len(cloud) - len(kept),
            "efficient": efficient,
        }

    def point(self, name: str, identifier: int) -> dict[str, Any]:
        """One point: what it is, its trial's other settings, and the baseline of equal cost beside it."""
        record, front = self._known(name)
        known = {p.id: p for p in (*front.members, *front.points, *front.baselines)}
        if (p := known.get(identifier)) is None:
            raise ValueError(
                f"study {name} shows no point {identifier}; it may have left the front"
            )
        cost = study_cost(record)
        beside = _rival(p, front.baselines, cost)
        own = sorted((q for q in front.points if q.training == p.training), key=cost.of)
        return _drawn(p) | {
            "training": training_text(*p.training),
            "params": {key: str(value) for key, value in p.params.items()},
            "curve": [_drawn(q) for q in own],
            "exits": p.extra.get("exit_shares"),
            "beside": _drawn(beside) if beside else None,
            "standing": standing(p, [beside] if beside else [], cost).name,
            "export": f"dynafront export {name} --point {identifier}",
        }

    def answer(self, name: str, budget: str, axis: str | None = None) -> dict[str, Any]:
        """The most accurate point within a budget, in words, beside the best baseline within it.

        `budget` as people write it, "20M"; `axis` is a cost by name, the study's own where it is left out. Raises
        ValueError for no number and for no cost, and where nothing is so cheap.
        """
        record, front = self._known(name)
        cost = _cost(axis) if axis else study_cost(record)
        limit = float(macs_number(budget))
        rivals = [p for p in front.baselines if cost.of(p) <= limit]
        within = [p for p in front_of(front.points, (cost,)) if cost.of(p) <= limit]
        if not within:
            raise ValueError(f"nothing costs {macs_text(limit)} {cost.unit} or less")
        best = within[-1]
        words = (
            f"within {macs_text(limit)} {cost.unit}: {training_text(*best.training)}, {percent(best.accuracy)} "
            f"({percent(best.accuracy_low)} to {percent(best.accuracy_high)})"
        )
        if not rivals:
            return {"point": best.id, "words": f"{words}; no static network is that cheap"}
        rival = max(rivals, key=lambda p: p.accuracy)
        if rival.training == best.training:
            return {"point": best.id, "words": f"{words}: a static network"}
        one, other = self.store.with_answers([best, rival])
        said = "no significant difference"
        if better(one, other):
            said = "significantly better"
        elif better(other, one):
            said = "significantly worse"
        words += f"; the best static network within it has {percent(rival.accuracy)}: {said}"
        return {"point": best.id, "words": words}

    def trials(self, name: str) -> list[dict[str, Any]]:
        """A row for each training, in the order of their numbers."""
        _, front = self._known(name)
        best: dict[tuple[Kind, int], PointRecord] = {}
        for p in (*front.points, *front.baselines):
            if p.training not in best or p.accuracy > best[p.training].accuracy:
                best[p.training] = p
        on_front = {p.training for p in front.members}
        return [
            _trial(t, best.get((t.kind, t.number)), (t.kind, t.number) in on_front)
            for t in self.store.trials(name)
        ]

    def _card(self, record: StudyRecord) -> dict[str, Any]:
        front, cost = self._front(record.name, self.store.stamp(record.name)), study_cost(record)
        small = thinned(front.members, SMALL)
        best = max((p.accuracy for p in front.members), default=None)
        return status(self.store, record, front, self.folder) | {
            "best_accuracy": best,
            "small": [[cost.of(p), p.accuracy] for p in small],
            "created_at": record.created_at.isoformat(),
        }

    def _known(self, name: str) -> tuple[StudyRecord, StudyFront]:
        record = self._record(name)
        return record, self._front(name, self.store.stamp(name))

    def _record(self, name: str) -> StudyRecord:
        if (record := self.store.find_study(name)) is None:
            raise ValueError(f"there is no study {name}")
        return record

    def _made(self, name: str, _: str) -> StudyFront:
        return study_front(self.store, self.store.study(name))


def _drawn(p: PointRecord) -> dict[str, Any]:
    shown = {key: value if isfinite(value := getattr(p, key)) else None for key in NUMBERS}
    return shown | {
        "id": p.id,
        "name": training_text(*p.training),
        "kind": p.kind,
        "trial": p.trial,
        "parameters": p.parameters,
        "network": network_text(p.family, p.params),
        "knobs": knobs_text(p.knobs),
    }


def _trial(t: TrialRecord, best: PointRecord | None, on_front: bool) -> dict[str, Any]:
    return {
        "name": training_text(t.kind, t.number),
        "kind": t.kind,
        "number": t.number,
        "state": t.state,
        "network": network_text(t.family, t.params),
        "accuracy": best.accuracy if best else None,
        "macs_mean": best.macs_mean if best else None,
        "epochs": t.epochs,
        "seconds": t.seconds,
        "on_front": on_front,
        "error": t.error,
        "run_id": t.run_id,
    }


def _rival(p: PointRecord, baselines: Sequence[PointRecord], cost: Cost) -> PointRecord | None:
    """The most accurate baseline of no more cost; where none is so cheap the cheapest."""
    others = [b for b in baselines if b.id != p.id]
    within = [b for b in others if cost.of(b) <= cost.of(p)]
    if within:
        return max(within, key=lambda b: b.accuracy)
    return min(others, key=cost.of, default=None)


def _cost(name: str) -> Cost:
    if name not in COSTS:
        raise ValueError(f"{name!r} is no cost; choose one of {', '.join(COSTS)}")
    return COSTS[name]
