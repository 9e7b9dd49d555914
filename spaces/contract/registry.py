"""The families, found by looking: every module of `spaces/families` that defines FAMILY, and those of other packages.

Another package names its family in an entry point of the group `dynafront.families`. One that cannot be used is left
out and named in the log: studies of other families go on.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from spaces.contract.family import Candidate, Family
from spaces.contract.space import nearest

logger = logging.getLogger(f"dynafront.{__name__}")

GROUP = "dynafront.families"
FOLDER = "spaces.families"  # by name: families import this folder, it imports none of them


@cache
def families() -> dict[str, Family]:
    """Every family by name. Raises ValueError when two modules define one of the same name."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(importlib.import_module(FOLDER).__path__, f"{FOLDER}."):
        family = getattr(importlib.import_module(module.name), "FAMILY", None)
        if isinstance(family, Family):
            if family.name in found:
                raise ValueError(
                    f"two families are named {family.name}; the second is in {module.name}"
                )
            found[family.name] = family
    for entry in entries():
        if entry.name in found:
            logger.warning("%s: there is a family of this name already", origin(entry))
        elif not left_out(entry):
            found[entry.name] = entry.load()
    return found


def family(name: str) -> Family:
    """The family of this name. Raises ValueError naming the nearest known one."""
    known = families()
    if name not in known:
        raise unknown(name, known)
    return known[name]


def unknown(name: str, known: Iterable[str]) -> ValueError:
    """That there is no family of this name: why its package cannot be used, or which name is the nearest."""
    for entry in entries():
        if entry.name == name and (reason := left_out(entry)):
            return ValueError(f"{name} is not a family: {origin(entry)}: {reason}")
    return ValueError(f"{name} is not a family{nearest(name, known)}")


@cache
def entries() -> tuple[EntryPoint, ...]:
    """The entry points that installed packages name their families in, in the order of the names."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def origin(entry: EntryPoint) -> str:
    """Which package an entry point is of, for messages."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"
    return f"{entry.value} of {package}"


@cache
def left_out(entry: EntryPoint) -> str:
    """Why what the entry point names cannot be used; empty where it can."""
    try:
        own = entry.load()
    except Exception as error:  # whatever another package raises while it is imported
        reason = f"cannot be imported ({type(error).__name__}: {error})"
    else:
        reason = _no_family(entry.name, own)
    if reason:
        logger.warning("family %s is left out: %s %s", entry.name, origin(entry), reason)
    return reason


def _no_family(name: str, own: object) -> str:
    if not isinstance(own, Family):
        return f"is a {type(own).__name__}, not a Family"
    return "" if own.name == name else f"is the family {own.name}; give the entry point its name"


class Drawn(Protocol):
    """What names a candidate: a stored trial, or the job that trains it."""

    @property
    def family(self) -> str: ...

    @property
    def params(self) -> Mapping[str, Any]: ...

    @property
    def epochs(self) -> int: ...


def candidate_of(one: Drawn) -> Candidate:
    """The candidate that a trial or a job trains. Raises ValueError when its family is not known."""
    return Candidate.of(family(one.family), one.params, one.epochs)
