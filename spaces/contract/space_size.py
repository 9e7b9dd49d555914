"""How many combinations a narrowed space has, counted without listing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spaces.contract.space import Dimension, Value, matters


@dataclass(frozen=True)
class SpaceSize:
    """Combinations of the values that can be counted, and the names of the dimensions that are continuous."""

    combinations: int
    continuous: tuple[str, ...]


def space_size(space: Sequence[Dimension]) -> SpaceSize:
    """The size of a space; values of dimensions that do not matter under the others make no further combination.

    States that agree in what later conditions ask for are counted together, so this takes no longer for a large space.
    """
    asked = {name for dimension in space for name in dimension.when}
    # for each state, as the values of the dimensions that matter and that a condition asks for: combinations
    states: Counter[tuple[tuple[str, Value], ...]] = Counter({(): 1})
    continuous = []
    for dimension in space:
        following: Counter[tuple[tuple[str, Value], ...]] = Counter()
        for state, count in states.items():
            values = dict(state)
            if not matters(dimension, values, set(values)):
                following[state] += count
                continue
            if _is_continuous(dimension) and dimension.name not in continuous:
                continuous.append(dimension.name)
            if dimension.name not in asked:
                following[state] += count * len(_values(dimension))
                continue
            for value in _values(dimension):
                following[(*state, (dimension.name, value))] += count
        states = following
    return SpaceSize(sum(states.values()), tuple(continuous))


def _is_continuous(dimension: Dimension) -> bool:
    return dimension.searched and dimension.kind == "float" and dimension.low < dimension.high


def _values(dimension: Dimension) -> Sequence[Value]:
    """The values that are combined with others; of a continuous range one stands for all."""
    if not dimension.searched or dimension.kind == "float":
        return (dimension.default,)
    if dimension.kind == "int":
        return range(int(dimension.low), int(dimension.high) + 1)
    return dimension.choices
