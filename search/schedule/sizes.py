"""What networks cost by their shapes alone, before anything is trained: the baseline of each size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from search.front.curves import ReferencePoint
from search.objectives import Cost, Shape
from spaces.contract.family import Candidate, Family
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension, Value
from spaces.contract.task import Task

logger = logging.getLogger(f"dynafront.{__name__}")


def shape_of(candidate: Candidate, task: Task) -> Shape:
    """What a candidate's network costs with everything open. Raises ValueError where it cannot be built."""
    net = candidate.outline(task)
    return Shape(net.plain_macs, sum(p.numel() for p in net.parameters()))


ShapeOf = Callable[[Candidate, Task], Shape]


def baseline_names(own: Family) -> tuple[str, ...]:
    """The dimensions that a baseline has, also that of a study that searches the size of the images."""
    return *own.size_dimensions, *own.baseline_dimensions, IMAGE_SIZE


def size_key(candidate: Candidate) -> tuple[Any, ...]:
    """The same for all candidates that have one baseline."""
    own = candidate.family
    return (
        own.name,
        candidate.image_size,
        *(
            getattr(candidate.config, name)
            for name in (*own.size_dimensions, *own.baseline_dimensions)
        ),
    )


def sizes(own: Family, space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Every size that a narrowed space has, as values of the size dimensions."""
    return combinations((*own.size_dimensions, IMAGE_SIZE), space)


def baseline_shapes(
    own: Family, space: Sequence[Dimension], task: Task, shape: ShapeOf = shape_of
) -> list[Shape]:
    """Of the baselines of every size that a narrowed space has; infeasible sizes are left out."""
    found = []
    for values in combinations(baseline_names(own), space):
        try:
            found.append(shape(Candidate.of(own, values, 1).baseline(), task))
        except ValueError as error:
            logger.debug("%s has no baseline of %s: %s", own.name, values, error)
    return found


def combinations(names: Sequence[str], space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Every combination of these dimensions' values, as far as the space has them; of a range its two ends."""
    by_name = {d.name: d for d in space}
    names = [name for name in names if name in by_name]
    return [
        dict(zip(names, one, strict=True))
        for one in product(*(_ends(by_name[name]) for name in names))
    ]


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    if not dimension.searched:
        return (dimension.default,)
    return dimension.choices if dimension.kind == "choice" else (dimension.low, dimension.high)


def baseline_size(
    task: Task, reference: ReferencePoint, costs: Sequence[Cost], shape: ShapeOf = shape_of
) -> Callable[[Candidate], tuple[float, ...]]:
    """Gives what a candidate's baseline costs, in shares of the reference point; built once a size."""
    known: dict[tuple[Any, ...], tuple[float, ...]] = {}

    def size(candidate: Candidate) -> tuple[float, ...]:
        key = size_key(candidate)
        if key not in known:
            found = shape(candidate.baseline(), task)
            own = [cost.of_baseline(found) for cost in costs]
            known[key] = tuple(one / most for one, most in zip(own, reference.costs, strict=True))
        return known[key]

    return size
