"""What a budget buys, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.front.comparison import better
from search.front.flattery import flattery
from search.objectives import Cost
from search.report.amounts import percent
from storage.records import PointRecord, training_text
from storage.store import Store


def answer(
    store: Store,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost,
    budget: str,
) -> dict[str, Any]:
    """The most accurate point within a budget, in words, beside the best baseline within it.

    `front` is that of accuracy and this cost alone, the cheapest first; `budget` as people write it, "20M". Raises
    ValueError for what is no number, and where nothing is so cheap.
    """
    limit = cost.read(budget)
    within = [p for p in front if cost.of(p) <= limit]
    if not within:
        raise ValueError(f"nothing costs {cost.text(limit)} or less{_cheapest(front, cost)}")
    best = within[-1]
    words = (
        f"within {cost.text(limit)}: {training_text(*best.training)}, {percent(best.accuracy)} "
        f"({percent(best.accuracy_low)} to {percent(best.accuracy_high)})"
    )
    rivals = [p for p in baselines if cost.of(p) <= limit]
    if not rivals:
        return {"point": best.id, "words": f"{words}; no static network is that cheap"}
    rival = max(rivals, key=lambda p: p.accuracy)
    if rival.training == best.training:
        return {"point": best.id, "words": f"{words}: a static network"}
    one, other = store.with_answers([best, rival])
    said = "no significant difference"
    if better(one, other, flattery(front).get(best.kind, 0.0)):
        said = "significantly better"
    elif better(other, one):
        said = "significantly worse"
    words += f"; the best static network within it has {percent(rival.accuracy)}: {said}"
    return {"point": best.id, "words": words}


def _cheapest(front: Sequence[PointRecord], cost: Cost) -> str:
    return f"; the cheapest point takes {cost.text(cost.of(front[0]))}" if front else ""
