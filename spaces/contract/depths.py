"""How deep each parameter of a network lies, for rates that fall with the distance from the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBERED = re.compile(r"^.*?\.\d+(?:\.\d+)*")  # "sections.0.1" of sections.0.1.conv1.weight


def depths_by_number(names: Iterable[str]) -> dict[str, int]:
    """The depth of each of a baseline's parameters, which are named in the order of the forward pass.

    Numbered modules are a layer each, such as blocks.0 and blocks.1. What stands before the first of them is depth 0,
    what follows the last one is the deepest.
    """
    found: dict[str, int] = {}
    layers: dict[str, int] = {}
    for name in names:
        match = NUMBERED.match(name)
        if match is None or match[0].startswith("stem."):
            found[name] = len(layers) + 1 if layers else 0
        else:
            found[name] = layers.setdefault(match[0], len(layers) + 1)
    return found
