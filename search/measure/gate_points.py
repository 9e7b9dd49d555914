"""A threshold of its own for each gate, by a few validation passes.

A gate's decision changes what later gates see, so a vector of thresholds is known only by running it. The passes that
one threshold for all gates took say roughly what each gate would save: how its open rate falls from one threshold to
the next, times the MACs behind it. The largest such steps are tried, one gate at a time, from the best common
threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from spaces.contract.knobs import Knobs
from spaces.contract.policies import Gate
from storage.records import OperatingPoint

GATE_PASSES = 6  # over validation
GOOD = 0.05  # of accuracy below the best point, at most, of settings from which the next step may start


@dataclass(frozen=True)
class Step:
    """One gate at another threshold, and the mean MACs an image that this is expected to move."""

    gate: str
    tau: float
    macs: float


def front_rows(points: Sequence[OperatingPoint]) -> list[int]:
    """Which of the points, cheapest first, no other beats in accuracy and mean MACs."""
    values = np.array([[p.macs_mean, p.accuracy] for p in points])
    return [int(i) for i in np.flatnonzero(moocore.is_nondominated(values, maximise=[False, True]))]


def gate_threshold_points(
    points: Sequence[OperatingPoint],
    gates: Sequence[Gate],
    start: float,
    measure: Callable[[Knobs], OperatingPoint],
) -> list[OperatingPoint]:
    """Points with a threshold a gate that join the front of `points`, by at most GATE_PASSES calls of `measure`.

    `points` hold those of one threshold for all gates, `start` among them. Coordinate steps: one that joins the front
    and is not far below the best is where the next one starts. None where fewer than two gates decide by the image.
    """
    common = {
        p.knobs["tau"]: p.extra["rates"] for p in points if list(p.knobs) == ["policy", "tau"]
    }
    steps = steps_from(start, common, gates)
    if len({step.gate for step in steps}) < 2:
        return []
    taus, known = dict.fromkeys((gate.name for gate in gates), start), list(points)
    for step in steps[:GATE_PASSES]:
        tried = taus | {step.gate: step.tau}
        known.append(measure(Knobs(tau=tried)))
        good = known[-1].accuracy >= max(p.accuracy for p in known) - GOOD
        if good and len(known) - 1 in front_rows(known):
            taus = tried
    return [known[i] for i in sorted(front_rows(known)) if i >= len(points)]


def steps_from(
    start: float, common: Mapping[float, Mapping[str, Sequence[float]]], gates: Sequence[Gate]
) -> list[Step]:
    """Steps of single gates to the next threshold up or down at which they open for other images, largest first.

    `common`: each gate's open rates by unit under each threshold for all gates. A gate that decides the same for all
    images has none.
    """
    found = []
    ascending = sorted(common)
    for gate in gates:
        here = np.array(common[start][gate.name])
        if not any(0 < rate < 1 for rates in common.values() for rate in rates[gate.name]):
            continue
        for way in (
            [tau for tau in ascending if tau > start],
            [tau for tau in reversed(ascending) if tau < start],
        ):
            moved = [
                (tau, gate.macs * float(np.abs(np.array(common[tau][gate.name]) - here).sum()))
                for tau in way
            ]
            found += [Step(gate.name, tau, macs) for tau, macs in moved if macs > 0][:1]
    return sorted(found, key=lambda step: -step.macs)
