"""The study file's JSON Schema, with which editors complete and check study files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from search.key_types import SIDES
from search.objectives import COSTS
from search.study_keys import StudySpec
from spaces.contract.declarations import declarations
from spaces.contract.family import Declaration
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension, Value
from trainers.data.sources import SOURCES
from trainers.metrics import METRICS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NARROWED = "Of the study's `image_size`, where that is a list: those of this family."
PATH = ":PATH"  # ends the sources that name a folder


def as_text() -> str:
    """The schema as a file has it."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def study_schema() -> dict[str, Any]:
    """JSON Schema of a study file: all keys with their descriptions, and each family's dimensions."""
    schema = _without_titles(StudySpec.model_json_schema())
    keys, known = schema["properties"], declarations()
    described = {key: keys[key]["description"] for key in ("data", "families", "objectives")}
    keys["data"] = {"description": described["data"], "anyOf": _sources()}
    keys["families"] = _list_of({"anyOf": [_constant(one.name, one.doc) for one in known.values()]})
    keys["families"] |= {"description": described["families"], "minItems": 1}
    keys["objectives"] = _list_of({"enum": list(COSTS)})
    keys["objectives"] |= {
        "description": described["objectives"],
        "minItems": 1,
        "prefixItems": [{"enum": list(METRICS)}],
        "default": ["accuracy", "macs"],
    }
    shared = _Shared()
    keys["space"] |= {
        "properties": {one.name: _family(one, shared) for one in known.values()},
        "additionalProperties": False,
    }
    schema["$defs"] |= shared.definitions | {IMAGE_SIZE: {"description": NARROWED, **SIDES}}
    return {"$schema": DIALECT, "title": "dynafront study file", **schema}


def _without_titles(node: Any) -> Any:
    """The schema without pydantic's titles, which only repeat the keys."""
    if isinstance(node, list):
        return [_without_titles(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_titles(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


def _sources() -> list[dict[str, Any]]:
    named = [source for source in SOURCES if not source.endswith(PATH)]
    kinds = "|".join(source.removesuffix(PATH) for source in SOURCES if source.endswith(PATH))
    return [{"enum": named}, {"type": "string", "pattern": f"^({kinds}):.+"}]


def _list_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": entry, "uniqueItems": True}


def _constant(value: str, description: str) -> dict[str, Any]:
    return {"const": value, "description": description}


@dataclass
class _Shared:
    """Definitions of dimensions: families share those of the recipe, and a file that repeats them is twice as large."""

    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reference(self, d: Dimension) -> dict[str, str]:
        """The place of a dimension's definition, which is made where it is a new one."""
        wanted = _dimension(d)
        for number in count(1):
            name = d.name if number == 1 else f"{d.name}-{number}"
            if self.definitions.setdefault(name, wanted) == wanted:
                return {"$ref": f"#/$defs/{name}"}
        raise AssertionError


def _family(one: Declaration, shared: _Shared) -> dict[str, Any]:
    return {
        "type": "object",
        "description": one.doc,
        "properties": {d.name: shared.reference(d) for d in one.space}
        | {IMAGE_SIZE: {"$ref": f"#/$defs/{IMAGE_SIZE}"}},
        "additionalProperties": False,
    }


def _dimension(d: Dimension) -> dict[str, Any]:
    """A value fixes the dimension, a list narrows it, and so does a range of a number."""
    value = _value(d)
    forms = [value, {**_list_of(value), "minItems": 1}]
    if d.kind != "choice":
        ends = {"low": value, "high": value}
        forms.append(
            {
                "type": "object",
                "properties": ends,
                "additionalProperties": False,
                "minProperties": 1,
            }
        )
    return {"description": _description(d), "default": d.default, "anyOf": forms}


def _value(d: Dimension) -> dict[str, Any]:
    if d.kind != "choice":
        kind = "integer" if d.kind == "int" else "number"
        least, most = d.ends
        return {"type": kind, "minimum": _end(d, least), "maximum": _end(d, most)}
    listed: dict[str, Any] = {"enum": list(d.choices)}
    # what an open choice takes beside these, only the family's own code can say
    return {"anyOf": [listed, {"type": ["string", "number"]}]} if d.accepts else listed


def _end(d: Dimension, end: float) -> Value:
    return int(end) if d.kind == "int" else end


def _description(d: Dimension) -> str:
    when = f"Matters when {d.condition()}." if d.when else ""
    searched = "" if d.searched else "Not searched unless it is named here."
    if d.searched and d.within:
        searched = f"Searched from {d.low:g} to {d.high:g}."
    return " ".join(part for part in (f"{d.doc or d.name}.", when, searched) if part)
