"""What is wrong with a study file, in one line: the key, what was given, what is allowed."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from spaces.contract.space import nearest
from storage.config_errors import nested
from storage.yaml_text import NotYamlError, clipped


def shown(value: object) -> str:
    """A value as a study file would have it, the beginning of a long one."""
    if isinstance(value, bool):
        return str(value).lower()
    return clipped("null" if value is None else repr(value))


def yaml_mistake(error: NotYamlError) -> str:
    """What is wrong with a text that is no YAML, or holds more than a study file may."""
    place = f" (line {error.line})" if error.line else ""
    if error.key:
        return f"{error.key}: {error.reason}{place}"
    return f"is not valid YAML: {error.reason}{place}"


def mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake that pydantic found in the values of a study file, which is a `model`."""
    first = error.errors(include_url=False)[0]
    keys = [str(part) for part in first["loc"]]
    key, given = clipped(".".join(keys)), first["input"]
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    match first["type"]:
        case "extra_forbidden":
            return f"{key}: no such key{nearest(keys[-1], nested(model, keys[:-1]).model_fields)}"
        case "missing":
            return f"{key}: is missing; a study file needs study, data and families"
        case "string_type" if isinstance(given, bool | int | float):
            kind = "a truth value" if isinstance(given, bool) else "a number"
            return f"{key}: {shown(given)} is {kind}, not text; put it in quotes: '{shown(given)}'"
        case "string_pattern_mismatch":
            return f"{key}: {shown(given)} may only have letters, digits, '-' and '_', at most 64, no path"
        case "literal_error":
            return f"{key}: {clipped(str(given))} is not one of {first['ctx']['expected']}"
        case "value_error":
            return f"{key}: {first['ctx']['error']}"
        case "bool_type":
            return f"{key}: {shown(given)}: {message}; write true or false"
        case "tuple_type":
            return f"{key}: {shown(given)}: input should be a list, such as [{clipped(str(given))}]"
        case "too_short":
            return f"{key}: {shown(given)}: input should have an entry at least"
        case "dict_type" | "model_type":
            return f"{key}: {shown(given)}: input should be a mapping of keys to values"
        case _:
            return f"{key}: {shown(given)}: {message}"
