"""A world in which training is looking up: a clock of epochs or seconds, and the front of what was trained so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.search_bench.table import Table, Training
from search.front.curves import Curve, ReferencePoint, own_front, volume
from spaces.contract.knobs import Knobs
from storage.records import Kind, PointRecord

EPOCHS, SECONDS = "epochs", "seconds"


class SpentError(Exception):
    """The budget of epochs is spent."""


class World:
    """One replay of the table. The seed says which of a candidate's two trainings is seen.

    The clock and the budget count epochs, or seconds.
    """

    def __init__(self, table: Table, seed: int, budget: float, unit: str = EPOCHS) -> None:
        self.table, self.seed, self.budget, self.unit = table, seed, budget, unit
        self.reference_point = ReferencePoint(1 / 10, (table.reference_macs,))
        self.judged = ReferencePoint(1 / 10, (table.nadir_macs,))
        self.clock = 0.0
        self.log: list[tuple[float, Curve]] = []
        self._draw = np.random.default_rng(seed)
        self._seen: dict[str, set[int]] = {}
        self._plain: set[str] = set()

    def find(self, family: str, params: Mapping[str, Any], start: str = "scratch") -> Training:
        """The training that stands for these values: the nearest that was not seen yet, as long as there is one."""
        seen = self._seen.setdefault(start, set())
        number, _ = self.table.nearest(family, params, seen)
        seen.add(number)
        both = start == "scratch" and (start, number, 1) in self.table.trainings
        return self.table.trainings[start, number, int(self._draw.integers(2)) if both else 0]

    def cost(self, training: Training, since: int, until: int, *, measuring: bool = False) -> float:
        """What the clock shows for training from an epoch to another, and for measuring all operating points."""
        if self.unit == SECONDS:
            spent = sum(training.seconds[since:until])
            return spent + (training.measuring_seconds[until] if measuring else 0.0)
        return until - since + (training.measuring[until] if measuring else 0.0)

    def train(self, training: Training, since: int, until: int, *, measuring: bool = False) -> None:
        """Train from an epoch to another, and measure all operating points. Raises SpentError."""
        self.spend(self.cost(training, since, until, measuring=measuring))

    def spend(self, time: float) -> None:
        """Let the clock run. Raises SpentError at the end of the budget."""
        self.wait(self.clock + time)

    def wait(self, when: float) -> None:
        """Let the clock run until then. Raises SpentError at the end of the budget."""
        if when > self.budget:
            self.clock = self.budget
            raise SpentError
        self.clock = when

    def cost_once(self, plain: str) -> float | None:
        """What the clock shows for training a baseline that others start from; None from the second time on."""
        if plain in self._plain:
            return None
        self._plain.add(plain)
        training, epochs = self.plain(plain), self.table.epochs
        return self.cost(training, 0, epochs, measuring=self.unit == SECONDS)

    def plain(self, name: str) -> Training:
        """The training of a baseline by its name in the table."""
        start, number, seed = name.split("-")
        return self.table.trainings[start, int(number), int(seed)]

    def points(self, training: Training, epoch: int) -> list[PointRecord]:
        """All operating points at a rung, as if they were stored."""
        return [
            PointRecord(
                trial=training.candidate,
                kind=Kind.SEARCH,
                family=training.family,
                params=training.params,
                knobs=row["knobs"],
                accuracy=row["accuracy"],
                accuracy_low=row["accuracy"],
                accuracy_high=row["accuracy"],
                macs_mean=row["macs_mean"],
                macs_p95=row["macs_p95"],
                macs_max=row["macs_p95"],
                parameters=row["parameters"],
                chosen=row["first"],
            )
            for row in training.points[epoch]
        ]

    def curve(self, training: Training, epoch: int) -> Curve:
        """All operating points at a rung that may join a front."""
        rows = [row for row in training.points[epoch] if not Knobs(**row["knobs"]).random]
        return self.reference_point.curve([(row["accuracy"], row["macs_mean"]) for row in rows])

    def point(self, training: Training, epoch: int) -> tuple[float, float]:
        """(accuracy, MACs) of the one setting that the network was trained for."""
        return next(
            (row["accuracy"], row["macs_mean"]) for row in training.points[epoch] if row["first"]
        )

    def count(self, curve: Curve) -> None:
        """These points are there from now on."""
        self.log.append(
            (
                self.clock,
                curve * np.array([1.0, self.reference_point.costs[0] / self.judged.costs[0]]),
            )
        )


def volumes(log: Sequence[tuple[float, Curve]], at: Sequence[float]) -> list[float]:
    """The front's hypervolume at each time of the clock."""
    front, found, rest = np.empty((0, 2)), [], list(log)
    for time in at:
        new = [curve for when, curve in rest if when <= time]
        rest = [one for one in rest if one[0] > time]
        if new:
            front = own_front(np.concatenate([front, *new]))
        found.append(volume(front))
    return found
