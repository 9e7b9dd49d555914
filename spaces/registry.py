"""The families, found by looking: every module of this package that defines FAMILY is one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import spaces
from spaces.family import Family
from spaces.space import nearest


@cache
def families() -> dict[str, Family]:
    """Every family by name. Raises ValueError when two modules define one of the same name."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(spaces.__path__, "spaces."):
        family = getattr(importlib.import_module(module.name), "FAMILY", None)
        if isinstance(family, Family):
            if family.name in found:
                raise ValueError(f"two families are named {family.name}; the second is in {module.name}")
            found[family.name] = family
    return found


def family(name: str) -> Family:
    """The family of this name. Raises ValueError naming the nearest known one."""
    known = families()
    if name not in known:
        raise ValueError(f"{name} is not a family{nearest(name, known)}")
    return known[name]
