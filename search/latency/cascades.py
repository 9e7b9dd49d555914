"""What an image takes in a cascade: what its members take that it comes to, the resizing, and the choices.

Shapes: N images, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from search.latency.predict import NetLatency, share_of_batches
from search.latency.table import LatencyTable, MissingUnitsError
from search.latency.time_units import BRANCH
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.task import Task
from spaces.contract.units import Ran, Unit
from spaces.deploy.resized import resized


def resize_unit(given: Task, made: Task, batch: int = 1) -> Unit:
    """Making images of one size from those of a larger one."""
    images = torch.zeros(batch, given.channels, given.height, given.width)
    run = partial(resized, height=made.height, width=made.width)
    return Unit(kind="resize", run=run, inputs=(images,))


def member_ms(clock: NetLatency, knobs: Knobs, rates: Rates, ran: Ran, given: Task) -> Tensor:
    """(N,) milliseconds that images take in a member without the call; `given` is the task of the images that come.

    Where they are larger than its own, making them smaller is part of it.

    Raises MissingUnitsError.
    """
    table = clock.table
    own_N = clock.of(knobs, rates, ran) - table.call_ms / table.batch
    own = clock.net.task
    if (given.height, given.width) == (own.height, own.width):
        return own_N
    unit = resize_unit(given, own, table.batch)
    if unit.key not in table.units:
        raise MissingUnitsError({unit.key: unit.words})
    return own_N + table.own_ms(unit.key) / table.batch


def cascade_ms(member_N: Sequence[Tensor], stage_N: Tensor, table: LatencyTable) -> Tensor:
    """(N,) milliseconds of each image: a call, each member that it comes to, and a choice behind each but the last.

    `member_N` (N,) of each member as `member_ms` gives them, `stage_N` (N,) the member, from 0, that an image ends at.
    In a batch all run a member that any of them comes to.
    """
    total_N = torch.full((len(stage_N),), table.call_ms / table.batch, dtype=torch.float64)
    for k, own_N in enumerate(member_N):
        came_N = share_of_batches(stage_N >= k, table.batch)
        total_N += own_N * came_N * table.batch
        if k < len(member_N) - 1:
            total_N += table.own_ms(BRANCH) * came_N
    return total_N
