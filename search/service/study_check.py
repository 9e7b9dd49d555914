"""A study file, checked at once, without torch: what is wrong and where, how large the space is, what it is about."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from search.commands.search_text import opening_line
from search.inputs import check_inputs
from search.objectives import COSTS
from search.service.allowed import allowed_folders, check_places
from search.service.study_text import line_of
from search.spec import StudySpec, declared_spaces, parse_study
from spaces.contract.declarations import declarations
from spaces.contract.space_size import space_size
from storage.settings import Settings
from storage.store import Store
from storage.yaml_text import NotYamlError, parsed
from trainers.data.sources import SOURCES
from trainers.metrics import METRICS

TEMPLATE = """\
study: my-study
data: digits
families: [gated_resnet]
budget:
  trials: 12
  epochs: 12
  warm_epochs: 4
  hours: 1
objectives: [accuracy, macs]
validation: 0.15
seed: 0
"""
WHERE = "study.yml"  # what messages call the text
PLACE = re.compile(rf"{re.escape(WHERE)}: (?:([A-Za-z_][\w.-]*): )?(.*)", re.DOTALL)
LINE = re.compile(r" \(line (\d+)\)")


def spec_of(text: str, settings: Settings) -> StudySpec:
    """The spec of a text that a page may launch. Raises ValueError with one line."""
    spec = parse_study(text, WHERE)
    check_places(spec, settings, WHERE)
    check_inputs(spec, WHERE)
    return spec


def check(text: str, settings: Settings, store: Store) -> dict[str, Any]:
    """What is wrong with the text, with its key and line, or what it says; `values` as far as it can be read."""
    found: dict[str, Any] = {"errors": [], "values": _values(text), "study": None}
    try:
        spec = spec_of(text, settings)
    except ValueError as error:
        return found | {"errors": [_mistake(text, str(error))]}
    sizes = {
        name: asdict(space_size(space)) for name, space in declared_spaces(spec, WHERE).items()
    }
    return found | {
        "study": spec.study,
        "known": store.find_study(spec.study) is not None,
        "space": sizes,
        "words": opening_line(spec),
    }


def choices(settings: Settings) -> dict[str, Any]:
    """What the form of a new study offers, and the text that it begins with. Without torch."""
    folders = allowed_folders(settings)
    return {
        "families": [{"name": one.name, "doc": one.doc} for one in declarations().values()],
        "data": list(SOURCES[:-2]),
        "metrics": {one.name: one.label for one in METRICS.values()},
        "costs": {one.name: one.label for one in COSTS.values()},
        "folders": None if folders is None else [str(one) for one in folders],
        "text": TEMPLATE,
    }


def _values(text: str) -> dict[str, Any]:
    try:
        content = parsed(text)
    except NotYamlError:
        return {}
    return content if isinstance(content, dict) else {}


def _mistake(text: str, message: str) -> dict[str, Any]:
    """The message without the file's name, its key, and the line where that stands."""
    found = PLACE.fullmatch(message)
    key, said = found.groups() if found else (None, message)
    place = LINE.search(said)
    line = int(place[1]) if place else line_of(text, key) if key else None
    return {"key": key, "line": line, "message": f"{key}: {said}" if key else said}
