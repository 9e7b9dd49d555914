"""A front as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from storage.records import PointRecord

JSON_KEYS = (
    *(
        "point",
        "trial",
        "kind",
        "family",
        "metric",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "top1",
        "top5",
    ),
    *("macs_mean", "macs_p95", "macs_max", "parameters", "knobs", "params"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


def as_json(study: str, points: Iterable[PointRecord], hypervolume: float) -> dict[str, Any]:
    """The front as plain values for `json.dumps`."""
    rows = [{key: _value(point, key) for key in JSON_KEYS} | point.latencies for point in points]
    return {"study": study, "hypervolume": hypervolume, "points": rows}


def as_rows(points: Iterable[PointRecord]) -> tuple[list[str], list[dict[str, Any]]]:
    """(columns, a row for each point); knobs and params as columns of their own (knob.tau, param.backbone)."""
    rows = [flat(point) for point in points]
    fixed = (*JSON_KEYS[:-2], "run_id")
    own = sorted({column for row in rows for column in row} - set(fixed))
    return [*fixed, *own], rows


def as_csv(points: Iterable[PointRecord]) -> str:
    """One line a point, below the names of the columns of `as_rows`."""
    columns, rows = as_rows(points)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: no_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def no_formula(value: Any) -> Any:
    """The value as a spreadsheet shows it: text that it would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def flat(point: PointRecord) -> dict[str, Any]:
    """The point as one level of columns; lists become JSON text."""
    row = {key: _value(point, key) for key in (*JSON_KEYS[:-2], "run_id")}
    return {
        **row,
        **point.latencies,
        **leaves(point.knobs, "knob."),
        **leaves(point.params, "param."),
    }


def _value(point: PointRecord, key: str) -> Any:
    return point.id if key == "point" else getattr(point, key)


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
