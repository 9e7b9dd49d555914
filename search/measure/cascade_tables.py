"""Tables of what trained networks answer and cost, image by image; what a cascade of them does, read off the tables.

Shapes: M members, N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import moocore
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.contract.cascades import CascadeRule

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MOST_MEMBERS = 60
MOST_SUMS = 2**33  # of probabilities, over all pairs: some ten seconds
MOST_HELD = 2**28  # probabilities of all members: 1 GiB


@dataclass(frozen=True)
class MemberTable:
    """Probabilities (M, N, C) float32, MACs (M, N) and the labels (N,).

    `training` (M,) tells settings of one network from others: these are not joined. `most_macs` and `parameters` (M,)
    are what a member takes at most, and has.
    """

    probabilities: Tensor
    macs: Floats
    labels: Ints
    training: Ints
    most_macs: Floats
    parameters: Floats

    def of(self, images: Ints) -> MemberTable:
        """The same of some images."""
        return MemberTable(
            self.probabilities[:, torch.from_numpy(images)],
            self.macs[:, images],
            self.labels[images],
            self.training,
            self.most_macs,
            self.parameters,
        )


@dataclass(frozen=True)
class Cascade:
    """Members by their row in the table, how images go on, and accuracy and mean MACs, expected or measured."""

    members: tuple[int, ...]
    rule: CascadeRule
    accuracy: float
    macs: float


@dataclass(frozen=True)
class Outcomes:
    """(N, C) probabilities that are answered, MACs (N,), and the member, from 0, that answered last (N,)."""

    probabilities: Tensor
    macs: Floats
    stage: Ints


def outcomes(
    probabilities: Sequence[Tensor], macs: Sequence[Floats], rule: CascadeRule
) -> Outcomes:
    """What a cascade does image by image; probabilities (N, C) and MACs (N,) of each member, in their order."""
    answered = probabilities[0].clone()
    paid, stage = macs[0].copy(), np.zeros(len(answered), dtype=np.int64)
    on = torch.ones(len(answered), dtype=torch.bool)
    for k in range(1, len(probabilities)):
        on = on & rule.goes_on(rule.thresholds[k - 1], answered)
        answered[on] = rule.answer(k, answered[on], probabilities[k][on])
        went = on.numpy()
        paid[went] += macs[k][went]
        stage[went] = k
    return Outcomes(answered, paid, stage)


def outcomes_of(table: MemberTable, members: Sequence[int], rule: CascadeRule) -> Outcomes:
    """What a cascade of these members of the table does."""
    rows = list(members)
    return outcomes([table.probabilities[m] for m in rows], [table.macs[m] for m in rows], rule)


def measured(table: MemberTable, members: Sequence[int], rule: CascadeRule) -> Cascade:
    """A cascade with its accuracy and mean MACs on the table's images."""
    found = outcomes_of(table, members, rule)
    right = found.probabilities.argmax(1).numpy() == table.labels
    return Cascade(tuple(members), rule, float(right.mean()), float(found.macs.mean()))


def room_for(images: int, classes: int) -> int:
    """How many members are searched: fewer where there are many images and classes."""
    size = images * classes
    return max(0, min(MOST_MEMBERS, isqrt(MOST_SUMS // size), MOST_HELD // size))


def worth_joining(accuracy: Floats, macs: Floats, room: int) -> list[int]:
    """The members that are searched: layer by layer of non-dominated sorting, the first of which is the front."""
    if not len(accuracy):
        return []
    rank = moocore.pareto_rank(np.column_stack([-accuracy, macs]))
    order = np.lexsort((macs, rank))[:room]
    return sorted(int(i) for i in order)
