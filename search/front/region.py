"""The part of the front that a study asks for, as a reference point of its own."""

from __future__ import annotations

import numpy as np

from search.front.curves import Curve, ReferencePoint
from search.objectives import LATENCY, MACS, Cost
from search.study_parts import Region


def corner_of(
    region: Region, reference: ReferencePoint, costs: tuple[Cost, ...], best: float
) -> Curve:
    """(D,) the region's worst corner as losses: accuracy, then costs. `best` is the best accuracy so far.

    While no training is as accurate as the region asks for, the best so far takes its place: the search has to get
    there first.
    """
    found = np.ones(1 + len(costs))
    wanted = max(region.min_accuracy or 0.0, best - region.within if region.within else 0.0)
    if wanted > 0:
        found[0] = min(1.0, (1 - min(wanted, best)) / (1 - reference.accuracy))
    allowed = {MACS.measure: region.max_macs, LATENCY.measure: region.max_latency_ms}
    for i, cost in enumerate(costs):
        most = allowed.get(cost.measure)
        if most:
            found[1 + i] = min(1.0, most / reference.costs[i])
    return found
