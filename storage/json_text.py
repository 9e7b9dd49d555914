"""JSON that keeps every float: a diverged training's NaN is a result too, but no JSON column takes it."""

from __future__ import annotations

import json
import math
from typing import Any

MARK = "$float"  # {"$float": "nan"}


def dumps(value: Any) -> str:
    """The value as strict JSON; numpy and torch scalars become numbers."""
    try:
        return STRICT.encode(value)
    except ValueError:
        return json.dumps(_marked(value), allow_nan=False, default=lambda v: _marked(_number(v)))


def loads(text: str | bytes) -> Any:
    """What `dumps` wrote; SQLite's driver hands over text, PostgreSQL's bytes."""
    text = text.decode() if isinstance(text, bytes) else text
    return json.loads(text, object_hook=_unmarked) if MARK in text else json.loads(text)


def _number(value: Any) -> Any:
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(
            f"{type(value).__name__} cannot be kept as JSON; give numbers, text, lists and dicts"
        )
    return item()


STRICT = json.JSONEncoder(allow_nan=False, default=_number)  # made once: every point has two texts


def _marked(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {MARK: str(value)}
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return value


def _unmarked(value: dict[str, Any]) -> Any:
    return float(value[MARK]) if set(value) == {MARK} else value
