"""What the families declare, without importing them: their modules hold networks, and importing torch takes seconds.

The declarations are kept in a file of the user's cache under a digest of the source files of this package and of those
that add families. Where there is none, or a source file changed, the families are imported and it is written anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spaces.contract.family import Declaration
from spaces.contract.registry import entries, families, family, origin, unknown
from spaces.contract.space import Dimension, Value

logger = logging.getLogger(f"dynafront.{__name__}")

SOURCES = Path(__file__).parents[1]
CACHE = "~/.cache/dynafront"
KEPT = 8  # files: of several installations, and of the last states of one that is worked on


@cache
def declarations() -> dict[str, Declaration]:
    """Every family's declaration by name."""
    file = cache_file()
    found = _read(file)
    if found is None:
        found = {name: own.declaration for name, own in families().items()}
        if all(entry.name in found for entry in entries()):  # one left out may be put right soon
            _write(file, found)
    return found


def declaration(name: str) -> Declaration:
    """The declaration of the family of this name. Raises ValueError naming the nearest known one."""
    known = declarations()
    if name not in known:
        raise unknown(name, known)
    return known[name]


def cache_file() -> Path:
    """Where the declarations of these source files are kept."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.rglob("*.py")):
        digest.update(f"{source.relative_to(SOURCES)}\n".encode())
        digest.update(source.read_bytes())
    for entry in entries():
        digest.update(f"{entry.name} {origin(entry)}\n".encode())
        for line in _stamps(entry.module.partition(".")[0]):
            digest.update(line.encode(errors="surrogateescape"))
    return Path(os.path.expanduser(CACHE)) / f"families-{digest.hexdigest()[:16]}.json"


def _stamps(package: str) -> Iterator[str]:
    """What tells the source files of another package from changed ones, without importing it."""
    spec = find_spec(package)
    if spec is None:
        return
    folders = map(Path, spec.submodule_search_locations or ())
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    for file in files or [Path(spec.origin or "")]:
        if file.is_file():
            yield f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n"


def _read(file: Path) -> dict[str, Declaration] | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {values["name"]: _from_json(values) for values in stored}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.debug("%s cannot be read: %s", file, error)
        return None


def _write(file: Path, found: Mapping[str, Declaration]) -> None:
    """Keep the declarations for the next time; where nothing can be written, they are read from the families again."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps([_as_json(one) for one in found.values()]))
        os.replace(unfinished, file)
        written = sorted(file.parent.glob("families-*.json"), key=os.path.getmtime, reverse=True)
        for old in written[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("%s cannot be written: %s", file, error)


def _as_json(one: Declaration) -> dict[str, Any]:
    space = [asdict(d) | {"accepts": d.accepts is not None} for d in one.space]
    return {**vars(one), "space": space}


def _from_json(values: Mapping[str, Any]) -> Declaration:
    return Declaration(
        name=values["name"],
        doc=values["doc"],
        space=tuple(_dimension(values["name"], d) for d in values["space"]),
        size_dimensions=tuple(values["size_dimensions"]),
        size_words=values["size_words"],
        traits=tuple(values["traits"]),
        sized_by=values["sized_by"],
    )


def _dimension(family_name: str, values: Mapping[str, Any]) -> Dimension:
    accepts: Callable[[str], Value] | None = None
    if values["accepts"]:
        accepts = partial(_accepted, family_name, values["name"])
    when = {name: tuple(allowed) for name, allowed in values["when"].items()}
    choices = tuple(values["choices"])
    within = None if values["within"] is None else tuple(values["within"])
    read = {"choices": choices, "when": when, "accepts": accepts, "within": within}
    return Dimension(**{**values, **read})


def _accepted(family_name: str, dimension: str, text: str) -> Value:
    """What an open choice makes of a text that is not listed: only the family's own code can say."""
    (own,) = (d for d in family(family_name).space if d.name == dimension)
    assert own.accepts is not None
    return own.accepts(text)
