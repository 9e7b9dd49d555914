"""What is checked and said of the sizes of the images, where a study searches several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

from search.schedule.sizes import baseline_shapes, shape_of
from search.schedule.warm_start import recommended
from spaces.contract.family import Candidate, Family
from spaces.contract.registry import family
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension
from spaces.contract.task import Task

LESS = (
    0.9  # of the MACs at one size, that the next smaller one has at most where it saves something
)


def check_sides(own: Family, space: Sequence[Dimension], task: Task) -> None:
    """Raise ValueError for a size of the images that no network of the space takes."""
    values, sides = recommended(space), _sides(space)
    for side in sides:
        try:
            shape_of(Candidate.of(own, values | {IMAGE_SIZE: side}, 1), task)
        except ValueError as error:
            here = [replace(d, choices=(side,)) if d.name == IMAGE_SIZE else d for d in space]
            if baseline_shapes(own, here, task):
                continue
            rest = [one for one in sides if one != side]
            raise ValueError(
                f"image_size: {side}: {error}; leave it out, or write `space: {{{own.name}: {{image_size: {rest}}}}}`"
            ) from None


def side_notes(spaces: Mapping[str, Sequence[Dimension]], task: Task) -> Iterator[str]:
    """A line for each family whose smaller images save nothing: networks with patches may take smaller patches."""
    for name, space in spaces.items():
        if alike := sides_alike(family(name), recommended(space), _sides(space), task):
            pairs = [f"{small} and {large}" for small, large in alike]
            yield (
                f"{name} costs about the same with images of {', of '.join(pairs)} pixels: it cuts smaller patches "
                "out of smaller images; name sizes that are further apart"
            )


def sides_alike(
    own: Family, values: Mapping[str, Any], sides: Sequence[int], task: Task
) -> list[tuple[int, int]]:
    """Neighbours among ascending sides of which the smaller saves nothing, for a baseline with these values."""
    macs = dict[int, int]()
    for side in sides:
        with suppress(ValueError):  # `check_sides` says which are too small for all networks
            candidate = Candidate.of(own, {**values, IMAGE_SIZE: side}, 1)
            macs[side] = shape_of(candidate.baseline(), task).macs
    return [(small, large) for small, large in pairwise(macs) if macs[small] > LESS * macs[large]]


def _sides(space: Sequence[Dimension]) -> list[int]:
    return [int(side) for d in space if d.name == IMAGE_SIZE for side in d.choices]
