"""The table of trainings: packed as Parquet, and looked up by the nearest candidate.

Three files a table: runs.parquet (one row a training), epochs.parquet (every epoch), points.parquet (operating points
at the rungs).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.spec import StudySpec, narrowed_spaces
from spaces.contract.space import Dimension, Value
from storage.yaml_text import file_text, parsed

RUN = ("start", "candidate", "seed", "family", "epochs", "origin")


@dataclass
class Training:
    """One row of the table: every epoch's (accuracy, MACs), and the operating points at its rungs."""

    candidate: int
    family: str
    params: dict[str, Any]
    start: str
    seed: int
    epochs: int
    origin: str | None
    plain_macs: int
    parameters: int
    error: str | None
    trained: list[tuple[float, float]] = field(default_factory=list)
    outlook: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each epoch
    points: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    # at rungs, of all those points: in epochs of training, and in seconds
    measuring: dict[int, float] = field(default_factory=dict)
    measuring_seconds: dict[int, float] = field(default_factory=dict)


def pack(work: Path, folder: Path) -> None:
    """Write what a work folder of JSON files holds as Parquet."""
    runs, epochs, points = [], [], []
    for path in sorted(work.glob("*.json")):
        record = json.loads(path.read_text())
        run = record["run"]
        name = {key: run[key] for key in ("start", "candidate", "seed")}
        runs.append({**{key: run[key] for key in RUN}, "params": json.dumps(run["params"], sort_keys=True),
                     "plain_macs": record.get("plain_macs", 0), "parameters": record.get("parameters", 0),
                     "seconds": record["seconds"], "error": record.get("error")})  # fmt: skip
        for one in record["epochs"]:
            epochs.append({**name, "epoch": one["epoch"], "accuracy": one["val/accuracy"], "macs": one["val/macs"],
                           "outlook": one.get("objective/outlook"), "seconds": one["seconds"],
                           "measuring": one.get("measuring")})  # fmt: skip
        for one in record["points"]:
            kept = {
                key: one[key]
                for key in ("epoch", "first", "accuracy", "macs_mean", "macs_p95", "parameters")
            }
            points.append({**name, **kept, "knobs": json.dumps(one["knobs"], sort_keys=True)})
    for file, rows in (("runs", runs), ("epochs", epochs), ("points", points)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{file}.parquet", compression="zstd")
        print(
            f"{file}.parquet: {len(rows)} rows, {(folder / f'{file}.parquet').stat().st_size / 1e6:.2f} MB"
        )


def study_of(folder: Path) -> StudySpec:
    """The study of a table as it was made. Keys that have no effect are not refused: replays depend on all of them."""
    return StudySpec(**parsed(file_text(folder / "study.yml")))


class Table:
    """A packed table, and the study file whose space it was drawn from."""

    def __init__(self, folder: Path) -> None:
        self.spec = study_of(folder)
        self.spaces: dict[str, tuple[Dimension, ...]] = narrowed_spaces(self.spec)
        found: dict[tuple[str, int, int], Training] = {}
        for row in _rows(folder, "runs"):
            key = row["start"], row["candidate"], row["seed"]
            own = {name: row[name] for name in (*RUN, "plain_macs", "parameters", "error")}
            found[key] = Training(params=json.loads(row["params"]), **own)
        for row in _rows(folder, "epochs"):
            one = found[row["start"], row["candidate"], row["seed"]]
            one.trained.append((row["accuracy"], row["macs"]))
            one.outlook.append(row["outlook"])
            one.seconds.append(row["seconds"])
            if row["measuring"] is not None:
                one.measuring[row["epoch"]] = row["measuring"] / row["seconds"]
                one.measuring_seconds[row["epoch"]] = row["measuring"]
        for row in _rows(folder, "points"):
            row["knobs"] = json.loads(row["knobs"])
            found[row["start"], row["candidate"], row["seed"]].points.setdefault(
                row["epoch"], []
            ).append(row)
        self.trainings = {key: one for key, one in found.items() if one.trained and not one.error}

    @property
    def epochs(self) -> int:
        return self.spec.budget.epochs

    @property
    def frozen(self) -> bool:
        """Whether its networks start from weights that stay; their static networks are trained before any trial."""
        return self.spec.initial(self.spec.families[0]) is not None

    @cached_property
    def seconds(self) -> float:
        """Of a training of full length, in the mean, without measuring."""
        return float(np.mean([sum(one.seconds) for one in self.of("scratch").values()]))

    @cached_property
    def reference_macs(self) -> float:
        """What the most expensive baseline costs, and a tenth more: the corner that fronts are measured from."""
        return 1.1 * max(one.plain_macs for one in self.trainings.values())

    @cached_property
    def nadir_macs(self) -> float:
        """The most expensive point of the whole table's front, and a tenth more: where methods are judged from."""
        rows = [row for one in self.trainings.values() for row in one.points.get(one.epochs, ())]
        best = max(row["accuracy"] for row in rows)
        return 1.1 * min(row["macs_mean"] for row in rows if row["accuracy"] == best)

    def of(self, start: str, seed: int = 0) -> dict[int, Training]:
        return {c: one for (s, c, k), one in self.trainings.items() if s == start and k == seed}

    @cached_property
    def _places(self) -> dict[str, tuple[list[int], np.ndarray]]:
        """By family: candidates, and their coordinates; a choice takes one coordinate a value, half a unit each."""
        found = {}
        for name in self.spaces:
            own = {c: one for c, one in self.of("scratch").items() if one.family == name}
            rows = [self._place(name, one.params) for one in own.values()]
            found[name] = list(own), np.array(rows)
        return found

    def _place(self, name: str, params: Mapping[str, Value]) -> list[float]:
        return [
            x for d in self.spaces[name] if not d.fixed for x in _coordinates(d, params.get(d.name))
        ]

    def nearest(
        self, name: str, params: Mapping[str, Value], but: Collection[int] = ()
    ) -> tuple[int, float]:
        """(candidate that is most like these values, its distance); `but` some that do not count, unless all are."""
        numbers, places = self._places[name]
        distance = np.abs(places - np.array(self._place(name, params))).sum(1)
        free = np.array([one not in but for one in numbers])
        if free.any():
            distance[~free] = np.inf
        best = int(np.argmin(distance))
        return numbers[best], float(distance[best])


def _coordinates(dimension: Dimension, value: Value | None) -> list[float]:
    if dimension.kind == "choice":
        return [0.5 * (value == one) for one in dimension.choices]
    # does not matter in this combination: as far from every value as half the range
    if value is None:
        return [0.5]
    low, high, at = dimension.low, dimension.high, float(value)
    return [
        (log(at) - log(low)) / (log(high) - log(low))
        if dimension.log
        else (at - low) / (high - low)
    ]


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()
