"""What networks cost by their shapes alone, before anything is trained: the plain network of each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch

from search.curves import Box
from search.front import Cost
from spaces.family import Candidate, Family
from spaces.space import Dimension, Value
from spaces.task import Task


def shapes(candidate: Candidate, task: Task) -> tuple[int, int]:
    """(MACs with everything open, parameters) of a candidate's network. Raises ValueError where it cannot be built."""
    with torch.device("meta"):
        net = candidate.family.build(candidate.config, task)
    return net.plain_macs, sum(p.numel() for p in net.parameters())


def size_key(candidate: Candidate) -> tuple[Any, ...]:
    """The same for all candidates that have one plain network."""
    own = candidate.family
    return own.name, *(getattr(candidate.config, name) for name in (*own.size_dimensions, *own.plain_dimensions))


def sizes(own: Family, space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Every size that a narrowed space has, as values of the size dimensions."""
    return _combinations(own.size_dimensions, space)


def largest(own: Family, space: Sequence[Dimension], task: Task) -> tuple[int, int]:
    """(MACs, parameters), the most of each that a plain network of a narrowed space has."""
    macs = parameters = 0
    for values in _combinations((*own.size_dimensions, *own.plain_dimensions), space):
        try:
            found = shapes(Candidate.of(own, values, 1).plain(), task)
        except ValueError:  # a combination that the family refuses
            continue
        macs, parameters = max(macs, found[0]), max(parameters, found[1])
    return macs, parameters


def _combinations(names: Sequence[str], space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Every combination of these dimensions' values; of a range its two ends."""
    by_name = {d.name: d for d in space}
    return [dict(zip(names, one, strict=True)) for one in product(*(_ends(by_name[name]) for name in names))]


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    if not dimension.searched:
        return (dimension.default,)
    return dimension.choices if dimension.kind == "choice" else (dimension.low, dimension.high)


def plain_size(task: Task, box: Box, costs: Sequence[Cost]) -> Callable[[Candidate], tuple[float, ...]]:
    """Gives what a candidate's plain network costs, in shares of the box; built once a size."""
    known: dict[tuple[Any, ...], tuple[float, ...]] = {}

    def size(candidate: Candidate) -> tuple[float, ...]:
        key = size_key(candidate)
        if key not in known:
            macs, parameters = shapes(candidate.plain(), task)
            own = [parameters if cost == "parameters" else macs for cost in costs]
            known[key] = tuple(one / most for one, most in zip(own, box.costs, strict=True))
        return known[key]

    return size
