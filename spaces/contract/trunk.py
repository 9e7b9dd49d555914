"""Whether the weights before a network's heads stay as they are loaded, as a study's values and spaces say it.

A built network says it by `FrozenTrunkNet.frozen`, and by `reads` whether its features can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spaces.contract.space import Dimension, Value

TRUNK, FINETUNED, FROZEN = "trunk", "finetuned", "frozen"


def is_frozen(values: Mapping[str, object]) -> bool:
    """Whether a network with these values keeps the weights of its trunk."""
    return values.get(TRUNK) == FROZEN


def trunks(space: Iterable[Dimension]) -> tuple[Value, ...]:
    """What a space allows for the trunk; empty for families without such a dimension."""
    for dimension in space:
        if dimension.name == TRUNK:
            return dimension.taken
    return ()
