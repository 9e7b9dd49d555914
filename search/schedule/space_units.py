"""The units of all networks that a study may come to, for a table of their times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations as pairs

import numpy as np

from search.latency.cascades import resize_unit
from search.schedule.growth import Draw
from search.schedule.sampler import InfeasibleError, draw_candidate
from search.schedule.sizes import baseline_names, combinations, sizes
from search.schedule.static_nets import static_nets_of
from search.schedule.timed_shapes import untrained
from search.schedule.warm_start import recommended
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension
from spaces.contract.task import Task
from spaces.contract.units import Unit, units_of, whole_unit

logger = logging.getLogger(f"dynafront.{__name__}")
DRAWS = 400  # random candidates, at most
ENOUGH = 40  # of them in a row without a unit that is new
Spaces = Mapping[str, Sequence[Dimension]]


def units_of_space(
    spaces: Spaces, task: Task, *, batch: int = 1, say: Callable[[str], None] = lambda line: None
) -> Iterator[Unit]:
    """Each unit once: baselines of all sizes, in parts and whole; recommended settings; random candidates; resizing.

    Random ones are drawn until ENOUGH in a row bring nothing new. What cannot be built is left out. Raises ValueError
    where nothing can.
    """
    seen: set[str] = set()
    for candidate in _baselines(spaces, task):
        yield from _new(candidate, task, batch, seen, whole=True)
    for candidate in _recommended(spaces):
        yield from _new(candidate, task, batch, seen)
    say(f"{len(seen)} units of the recommended networks of each size")
    idle = 0
    for candidate in _drawn(spaces):
        known = len(seen)
        yield from _new(candidate, task, batch, seen)
        idle = idle + 1 if len(seen) == known else 0
        if idle == ENOUGH:
            break
    if not seen:
        raise ValueError("no network of the study's space can be built for these images")
    yield from _resizes(spaces, task, batch)


def _new(
    candidate: Candidate, task: Task, batch: int, seen: set[str], *, whole: bool = False
) -> Iterator[Unit]:
    try:
        net = untrained(candidate, task)
        units = units_of(net, batch=batch)
        if whole:
            units = (*units, whole_unit(net, units, batch=batch))
    except ValueError as error:
        logger.debug("no units of %s: %s", candidate.params, error)
        return
    for unit in units:
        if unit.key not in seen:
            seen.add(unit.key)
            yield unit


def _resizes(spaces: Spaces, task: Task, batch: int) -> Iterator[Unit]:
    """Making images smaller, as a cascade does for members of smaller sides than its largest."""
    sides = {
        int(side)
        for space in spaces.values()
        for dimension in space
        if dimension.name == IMAGE_SIZE
        for side in dimension.choices
    }
    for small, large in pairs(sorted(sides), 2):
        given, made = (replace(task, height=one, width=one) for one in (large, small))
        yield resize_unit(given, made, batch)


def _baselines(spaces: Spaces, task: Task) -> Iterator[Candidate]:
    for name, space in spaces.items():
        own = family(name)
        for values in combinations(baseline_names(own), space):
            try:
                one = Candidate.of(own, values, 1)
            except ValueError as error:
                logger.debug("%s has no network of %s: %s", name, values, error)
                continue
            yield from (one.baseline(), *static_nets_of(one, task))


def _recommended(spaces: Spaces) -> Iterator[Candidate]:
    for name, space in spaces.items():
        own = family(name)
        for size in sizes(own, space):
            try:
                yield Candidate.of(own, recommended(tuple(space)) | size, 1)
            except ValueError as error:
                logger.debug("%s has no network of %s: %s", name, size, error)


def _drawn(spaces: Spaces) -> Iterator[Candidate]:
    draw, known = np.random.default_rng(0), {name: tuple(space) for name, space in spaces.items()}
    for _ in range(DRAWS):
        try:
            yield draw_candidate(Draw(draw), known, lambda _: 1)
        except InfeasibleError as error:
            logger.debug("a draw is infeasible: %s", error)
