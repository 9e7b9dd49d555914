"""Pairs and triples of trained networks with their thresholds, searched on tables; no network is run.

All ordered pairs are searched, with a threshold for every hundredth of the images. Triples extend the best pairs by a
third member, again with all its thresholds. A member is followed by one that costs more.

What is searched for is the accuracy to be expected: how likely each answer is right, given how sure it is and how sure
the answer before it was (`likely_right`). Counts of right answers would reward what a few images happen to say: on 500
images their best cascades were 3.7 points above fresh images, those of expected accuracy 2.0, and better on fresh ones.

Shapes: M members, N images, J members that may follow, K ways to cut the images that are ordered by confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import moocore
import numpy as np
import torch
from torch import Tensor

from search.measure.calibration import likely_right
from search.measure.cascade_tables import (
    Bools,
    Cascade,
    Floats,
    Ints,
    MemberTable,
    outcomes_of,
)
from search.report.front_points import evenly
from spaces.contract.cascades import RULES, CascadeRule

MOST_EXTENDED = 150  # pairs that a third member is tried with
MOST_CUTS = 100  # thresholds of a member: the expected accuracy changes little from one to the next


def search_cascades(
    table: MemberTable, *, macs: float = np.inf, parameters: float = np.inf
) -> list[Cascade]:
    """The front of expected accuracy and mean MACs over pairs and triples, cheapest first.

    No cascade may take more `macs` than that for an image, or have more `parameters`.
    """
    search = _Search(table, macs, parameters)
    pairs = search.pairs()
    triples = [one for pair in _best(pairs, MOST_EXTENDED) for one in search.extended(pair)]
    return front_of([*pairs, *triples])


def front_of(found: Sequence[Cascade]) -> list[Cascade]:
    """The cascades that no other beats in accuracy and MACs, cheapest first."""
    if not found:
        return []
    values = np.array([[one.macs, one.accuracy] for one in found])
    kept = moocore.is_nondominated(values, maximise=[False, True])
    return sorted(
        (one for one, keep in zip(found, kept, strict=True) if keep), key=lambda c: c.macs
    )


def _best(found: Sequence[Cascade], count: int) -> list[Cascade]:
    """So many, layer by layer of non-dominated sorting."""
    if not found:
        return []
    values = np.array([[one.macs, -one.accuracy] for one in found])
    order = np.argsort(moocore.pareto_rank(values), kind="stable")[:count]
    return [found[i] for i in order]


class _Search:
    """One search; what all pairs need of the table is computed once."""

    def __init__(self, table: MemberTable, macs: float, parameters: float) -> None:
        self.table, self.macs, self.parameters = table, macs, parameters
        self.mean_macs = table.macs.mean(1)
        self.likely = _likely(table.probabilities, table.labels)
        self._nexts: dict[tuple[tuple[int, ...], bool], tuple[Ints, Floats]] = {}

    def pairs(self) -> list[Cascade]:
        """The front of each first member's pairs, by rule and kind of answer."""
        found: list[Cascade] = []
        for first in range(len(self.mean_macs)):
            for rule in RULES:
                for committee in (False, True):
                    start = CascadeRule(rule=rule, thresholds=(), committee=committee)
                    found += self._cut((first,), start, self.likely[first])
        return found

    def extended(self, pair: Cascade) -> list[Cascade]:
        """The front of a pair's extensions by a third member."""
        first, second = pair.members
        nexts, likely_JN = self._followed((first,), pair.rule)
        return list(self._cut(pair.members, pair.rule, likely_JN[list(nexts).index(second)]))

    def _followed(self, members: tuple[int, ...], rule: CascadeRule) -> tuple[Ints, Floats]:
        """Who may follow these members, and (J, N) how likely the answer after it is right."""
        key = members, rule.committee
        if key not in self._nexts:
            nexts, own = self._may_follow(members), self.table.probabilities
            before_NC = own[members[0]]
            for place, member in enumerate(members[1:], 1):
                before_NC = rule.answer(place, before_NC, own[member])
            each = [rule.answer(len(members), before_NC, own[j]) for j in nexts]
            stacked = torch.stack(each) if each else own[:0]
            self._nexts[key] = nexts, _likely(stacked, self.table.labels, before_NC)
        return self._nexts[key]

    def _may_follow(self, members: Sequence[int]) -> Ints:
        table, chosen = self.table, list(members)
        fits = self.mean_macs > self.mean_macs[chosen[-1]]
        fits &= ~np.isin(table.training, table.training[chosen])
        fits &= table.most_macs + table.most_macs[chosen].sum() <= self.macs
        fits &= table.parameters + table.parameters[chosen].sum() <= self.parameters
        return np.flatnonzero(fits)

    def _cut(
        self, members: tuple[int, ...], rule: CascadeRule, likely_N: Floats
    ) -> Iterator[Cascade]:
        """The front over the next member and the threshold of the last one so far.

        `likely_N` is how likely the answer of the last one so far is right.
        """
        table, images = self.table, len(self.table.labels)
        nexts, likely_JN = self._followed(members, rule)
        so_far = outcomes_of(table, members, rule)
        confidence = rule.confidence(so_far.probabilities).double().numpy()
        asked = np.flatnonzero(so_far.stage == len(members) - 1)
        order = asked[np.argsort(-confidence[asked], kind="stable")]
        sure = confidence[order]
        cuts = np.flatnonzero(sure[1:] < sure[:-1]) + 1  # so many are answered here
        cuts = cuts[evenly(len(cuts), min(len(cuts), MOST_CUTS))]
        if not len(nexts) or not len(cuts):
            return
        settled = self.likely[members[0]][so_far.stage < len(members) - 1].sum()
        stay = settled + np.cumsum(likely_N[order])[cuts - 1]
        accuracy_JK = (stay + _sums_behind(likely_JN[:, order], cuts)) / images
        macs_JK = (so_far.macs.sum() + _sums_behind(table.macs[nexts][:, order], cuts)) / images
        for j, k in _front(accuracy_JK, macs_JK):
            # half-way, so that a rounding error sends no image elsewhere
            threshold = float(sure[cuts[k] - 1] + sure[cuts[k]]) / 2
            yield Cascade(
                (*members, int(nexts[j])),
                replace(rule, thresholds=(*rule.thresholds, threshold)),
                float(accuracy_JK[j, k]),
                float(macs_JK[j, k]),
            )


def _likely(probabilities_JNC: Tensor, labels_N: Ints, before_NC: Tensor | None = None) -> Floats:
    """(J, N) how likely answers are right, given how sure they are, and how sure the answer before them was."""
    top_JN, answer_JN = probabilities_JNC.max(2)
    known = [top_JN.double().numpy()]
    known += [] if before_NC is None else [before_NC.amax(1).double().numpy()[None]]
    return likely_right(known, answer_JN.numpy() == labels_N)


def _sums_behind(values_JN: Bools | Floats, cuts: Ints) -> Floats:
    """(J, K) for each cut the sum over the images behind it."""
    up_to_JN = np.cumsum(values_JN, 1, dtype=np.float64)
    sums: Floats = up_to_JN[:, -1:] - up_to_JN[:, cuts - 1]
    return sums


def _front(accuracy_JK: Floats, macs_JK: Floats) -> list[tuple[int, int]]:
    """Rows and columns of what no other beats, cheapest first. In a row, MACs fall from column to column."""
    ascending_JK = accuracy_JK[:, ::-1]
    best_JK = np.maximum.accumulate(ascending_JK, 1)
    ahead_JK = np.ones(accuracy_JK.shape, dtype=bool)  # of all that costs less in its row
    ahead_JK[:, 1:] = ascending_JK[:, 1:] > best_JK[:, :-1]
    rows, columns = np.nonzero(ahead_JK[:, ::-1])
    accuracy, macs = accuracy_JK[rows, columns], macs_JK[rows, columns]
    order = np.lexsort((-accuracy, macs))
    best = np.maximum.accumulate(accuracy[order])
    kept = order[np.flatnonzero(np.diff(best, prepend=-1.0) > 0)]
    return [(int(rows[i]), int(columns[i])) for i in kept]
