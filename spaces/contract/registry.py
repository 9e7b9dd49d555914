"""The families, found by looking: every module of `spaces/families` that defines FAMILY is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from spaces.contract.family import Candidate, Family
from spaces.contract.space import nearest

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
    return found


def family(name: str) -> Family:
    """The family of this name. Raises ValueError naming the nearest known one."""
    known = families()
    if name not in known:
        raise ValueError(f"{name} is not a family{nearest(name, known)}")
    return known[name]


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
