"""Two to four studies beside each other, in the words of `dynafront compare`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from search.front.stored import StudyFront, study_cost
from search.front.two_fronts import Comparison, compare
from search.report.comparison import comparison_json, remarks
from search.service.axes import latencies
from search.service.drawn import drawn
from storage.records import StudyRecord
from storage.store import Store

MOST = 4


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError where these are not two to four different studies."""
    if len(set(names)) != len(names):
        raise ValueError(f"{', '.join(names)}: one study stands there twice; name different ones")
    if not 2 <= len(names) <= MOST:
        raise ValueError(f"{len(names)} studies: name two to {MOST}, as in ?study=one&study=other")


def compared(store: Store, found: Sequence[tuple[StudyRecord, StudyFront]]) -> dict[str, Any]:
    """The fronts of studies, and for each pair of them what `dynafront compare` says.

    Raises ValueError where their fronts are of different things, or one has none.
    """
    pairs = [compare(store, (one, two)) for (one, _), (two, _) in combinations(found, 2)]
    cost = study_cost(found[0][0])
    return {
        "cost": cost.name,
        "column": cost.column,
        "label": cost.label,
        "metric": pairs[0].metric.label,
        "studies": [_front(store, record, front) for record, front in found],
        "pairs": [_pair(one) for one in pairs],
    }


def _front(store: Store, record: StudyRecord, front: StudyFront) -> dict[str, Any]:
    known = latencies(store, record.name)
    return {"study": record.name, "front": [drawn(p, known) for p in front.members]}


def _pair(found: Comparison) -> dict[str, Any]:
    one, two = found.names
    return comparison_json(found) | {
        "words": list(remarks(found)),
        "command": f"dynafront compare {one} {two}",
    }
