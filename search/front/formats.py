"""A front as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from search.front.metric import metric_of
from storage.records import PointRecord
from trainers.metrics import ACCURACY

JSON_KEYS = (
    *("trial", "kind", "family", "accuracy", "accuracy_low", "accuracy_high"),
    *("macs_mean", "macs_p95", "macs_max", "parameters", "knobs", "params"),
)
OTHER_METRIC = ("metric", "top1")  # where accuracy is not the share of right answers
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


def as_json(study: str, points: Iterable[PointRecord], hypervolume: float) -> dict[str, Any]:
    """The front as plain values for `json.dumps`."""
    rows = [{key: getattr(point, key) for key in (*JSON_KEYS, *_more(point))} for point in points]
    return {"study": study, "hypervolume": hypervolume, "points": rows}


def as_csv(points: Iterable[PointRecord]) -> str:
    """One line a point; knobs and params as columns of their own (knob.tau, param.backbone)."""
    rows = [flat(point) for point in points]
    fixed = (*JSON_KEYS[:-2], "run_id", *(OTHER_METRIC if any("metric" in r for r in rows) else ()))
    own = sorted({column for row in rows for column in row} - set(fixed))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*fixed, *own], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: no_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def no_formula(value: Any) -> Any:
    """The value as a spreadsheet shows it: text that it would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def flat(point: PointRecord) -> dict[str, Any]:
    """The point as one level of columns; lists become JSON text."""
    row = {key: getattr(point, key) for key in (*JSON_KEYS[:-2], "run_id", *_more(point))}
    return {**row, **leaves(point.knobs, "knob."), **leaves(point.params, "param.")}


def _more(point: PointRecord) -> tuple[str, ...]:
    return () if metric_of([point]) is ACCURACY else OTHER_METRIC


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: {"gates": {"target": 0.5}} is {"gates.target": 0.5}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(leaves(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = (
                json.dumps(list(value)) if isinstance(value, list | tuple) else value
            )
    return found
