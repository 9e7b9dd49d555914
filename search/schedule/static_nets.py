"""The static networks that people would use in place of exits on a frozen trunk: whole, and ended behind each stage.

Their heads train by the same recipe on the same features, so they take seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from search.schedule.sizes import sizes
from search.schedule.warm_start import for_heads, recommended
from search.spec import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.space import Dimension
from spaces.contract.task import Task
from spaces.contract.trunk import FROZEN, TRUNK, is_frozen, trunks

logger = logging.getLogger(f"dynafront.{__name__}")


def static_nets(
    spec: StudySpec, spaces: Mapping[str, tuple[Dimension, ...]], task: Task
) -> Iterator[Candidate]:
    """The baselines of frozen trunks: of each size the whole network, then those that end behind a stage."""
    for name, space in spaces.items():
        if FROZEN not in trunks(space):
            continue
        own = family(name)
        for size in sizes(own, space):
            values = for_heads(space, recommended(space) | size | {TRUNK: FROZEN})
            yield from static_nets_of(Candidate.of(own, values, spec.budget.epochs), task)


def static_nets_of(candidate: Candidate, task: Task) -> Iterator[Candidate]:
    """The static networks of a candidate's size, where its trunk is frozen."""
    if is_frozen(candidate.values):
        whole = candidate.baseline()
        yield whole
        yield from _truncated(whole, task)


def _truncated(whole: Candidate, task: Task) -> Iterator[Candidate]:
    # only here: torch is slow to import
    from spaces.exits.frozen_trunk import FrozenTrunkNet

    try:
        net = whole.outline(task)
    except ValueError as error:
        logger.debug("no static networks of %s: %s", whole.params, error)
        return
    assert isinstance(net, FrozenTrunkNet)
    for number in range(len(net.exit_places)):
        yield replace(whole, config=replace(whole.config, truncated=number))
