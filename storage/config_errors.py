"""One line about one wrong setting: which key, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "model_type": "a section with keys of its own",
}


def complaint(error: Mapping[str, Any], content: Any, model: type[BaseModel], origin: str) -> str:
    """The line for one of pydantic's errors about `content`; `origin` is its file or variable."""
    keys = [str(part) for part in error["loc"]]
    where = f"{origin}: {'.'.join(keys)}"
    if error["type"] == "extra_forbidden":
        return f"{where}: no such key{_nearest(keys[-1], _known(model, keys[:-1]))}"
    value = _value(content, error["loc"])
    given = "null" if value is None else repr(value)
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        low, high = _range(model, keys)
        return f"{where}: {given} is not between {low} and {high}"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    return f"{where}: {given} is not {WANTED.get(error['type'], 'allowed (' + error['msg'] + ')')}"


def nested(model: type[BaseModel], keys: list[str]) -> type[BaseModel]:
    """The model of the section that `keys` lead to."""
    for key in keys:
        annotation = model.model_fields[key].annotation
        found = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        model = next(a for a in found if issubclass(a, BaseModel))
    return model


def _known(model: type[BaseModel], keys: list[str]) -> list[str]:
    return list(nested(model, keys).model_fields)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    guess = f"; did you mean {close[0]}?" if close else ";"
    return f"{guess} Known keys: {', '.join(known)}"


def _range(model: type[BaseModel], keys: list[str]) -> tuple[Any, Any]:
    limits = nested(model, keys[:-1]).model_fields[keys[-1]].metadata
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), "-inf")
    high = next((limit.le for limit in limits if hasattr(limit, "le")), "inf")
    return low, high


def _value(content: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content
