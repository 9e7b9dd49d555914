"""Points as they travel: what a picture or a choice needs of them, each training's network once."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from search.objectives import COSTS
from storage.records import TIMED, TIMED_STATIC, Kind, PointRecord

FIELDS = (
    "id",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macs_mean",
    "macs_p95",
    "macs_max",
    "parameters",
    "knobs",
)
# of `extra`, which has much that only inspection reads: by what a point was measured, and costs that stand there
COST_COLUMNS = tuple(cost.column for cost in COSTS.values())
EXTRA = ("metric", "top1", "top5", "selection_bias", TIMED, TIMED_STATIC, *COST_COLUMNS)


def packed(points: Iterable[PointRecord]) -> dict[str, Any]:
    """The points as JSON has them: `trainings`, and rows of `columns` of which the first is a place among them."""
    trainings: dict[tuple[Kind, int], dict[str, Any]] = {}
    places: dict[tuple[Kind, int], int] = {}
    rows = []
    for p in points:
        if p.training not in places:
            places[p.training] = len(places)
            trainings[p.training] = {
                "kind": str(p.kind),
                "trial": p.trial,
                "family": p.family,
                "params": p.params,
                "run_id": p.run_id,
            }
        extra = {key: p.extra[key] for key in EXTRA if key in p.extra}
        own = [plain(getattr(p, key)) for key in FIELDS]
        rows.append([places[p.training], *own, plain(extra), _text(p.right)])
    columns = ["training", *FIELDS, "extra", "right"]
    return {"trainings": list(trainings.values()), "columns": columns, "rows": rows}


def unpacked(content: Mapping[str, Any]) -> list[PointRecord]:
    """The points of `packed`: with what is answered to each image where that was there, for tests in pairs."""
    found = []
    for row in content["rows"]:
        fields = dict(zip(content["columns"], row, strict=True))
        training = dict(content["trainings"][fields.pop("training")])
        kind = Kind(training.pop("kind"))
        right, identifier = fields.pop("right"), fields.pop("id")
        numbers = {key: float("nan") if value is None else value for key, value in fields.items()}
        whole = {**numbers, **training, "right": None if right is None else b64decode(right)}
        found.append(PointRecord(**whole, id=identifier, kind=kind))
    return found


def _text(right: bytes | None) -> str | None:
    return None if right is None else b64encode(right).decode()


def plain(value: Any) -> Any:
    """The value as JSON can say it: None for a number that is not finite, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
