"""A table of how long units take on one machine, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.latency.time_units import BRANCH, CALL
from search.spec_errors import mistake

Runtime = Literal["onnxruntime", "torch"]


class Timed(BaseModel):
    """Milliseconds of one run of a unit: the median, and the ends of the middle half of all runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    unit: str = Field(description="Kind and shapes, for readers.")
    median: float = Field(ge=0, lt=inf)
    low: float = Field(ge=0, lt=inf)
    high: float = Field(ge=0, lt=inf)


class LatencyTable(BaseModel):
    """Times of units by key, measured in one runtime on one device, with so many threads and images a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    machine: dict[str, str]
    runtime: Runtime
    device: str
    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    versions: dict[str, str]
    units: dict[str, Timed]
    wholes: dict[str, list[str]] = Field(
        default_factory=dict, description="Units that are whole networks: the keys of their parts."
    )

    @property
    def call_ms(self) -> float:
        """Milliseconds of calling a program that does nothing."""
        return self.units[CALL].median

    def own_ms(self, key: str) -> float:
        """Milliseconds that a unit adds to a network: its time alone without that of a call."""
        return max(0.0, self.units[key].median - self.call_ms)

    @property
    def whole_shares(self) -> list[tuple[float, float]]:
        """Of each whole network the milliseconds of its units, each alone, and what it takes in shares of these.

        Weights of a unit that is run again and again stay in the cache; within a network others take their place.
        """
        found = []
        for key, parts in self.wholes.items():
            if alone := sum(self.own_ms(part) for part in parts):
                found.append((alone, self.own_ms(key) / alone))
        return found

    @property
    def words(self) -> str:
        """Where it was measured: "onnxruntime 1.23 on phone, cpu, 1 thread, batch 1"."""
        version = self.versions.get(self.runtime, "")
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        where = self.machine.get("name") or self.machine.get("processor", "an unknown machine")
        return f"{self.runtime} {version} on {where}, {self.device}, {threads}, batch {self.batch}"


class MissingUnitsError(ValueError):
    """Units, their words by key, of which a table has no time."""

    def __init__(self, missing: Mapping[str, str]) -> None:
        some = ", ".join(sorted(set(missing.values()))[:3])
        super().__init__(
            f"the latency table has no time of {len(missing)} units ({some}); profile the study again"
        )


def read_table(path: Path) -> LatencyTable:
    """The table in a file. Raises ValueError with one line."""
    try:
        found = LatencyTable(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); dynafront profile writes a latency table"
        ) from None
    except ValidationError as error:
        raise ValueError(f"{path}: {mistake(error, LatencyTable)}") from None
    except (TypeError, ValueError):
        raise ValueError(f"{path}: is no latency table; dynafront profile writes one") from None
    for name in (CALL, BRANCH):
        if name not in found.units:
            raise ValueError(f"{path}: has no time of {name}; write it anew with dynafront profile")
    return found


def write_table(table: LatencyTable, path: Path) -> None:
    """Write the file; its folder exists afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table.model_dump(), indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


def merged(table: LatencyTable, more: Mapping[str, Any]) -> LatencyTable:
    """The table with the times of other units too."""
    return table.model_copy(update={"units": {**table.units, **more}})
