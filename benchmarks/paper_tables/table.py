"""Tables of the papers: what was published, the study file that trains it, and how small it can be made.

A row is one of the study's settings, in the file's order, or the baseline of a size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "studies" / "papers" / "tables"
SCALES = ("smoke", "cpu", "gpu")


@dataclass(frozen=True)
class Row:
    """What was published of one network: test accuracy as a share, and MACs where the table has them.

    `setting` is its place among the study's settings; a `baseline` is found by its dimensions instead.
    """

    label: str
    accuracy: float
    macs: float | None = None
    setting: int | None = None
    baseline: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Changes that make a study file smaller: its keys, those of every family's space, values by other values."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """A table, where it is from, and what the exact study still does differently."""

    name: str  # of its study file
    source: str
    rows: tuple[Row, ...]
    scales: Mapping[str, Scale]
    differs: tuple[str, ...] = ()

    def text(self, scale: str, data: str | None = None, repeats: int | None = None) -> str:
        """The study file at a scale; "gpu" is as published."""
        keys: dict[str, Any] = yaml.safe_load((FOLDER / f"{self.name}.yml").read_text())
        small = self.scales.get(scale, Scale())
        keys |= small.keys
        for space in keys["space"].values():
            space.update(small.space)
        for trial in keys["trials"]:
            for name, other in small.values.items():
                trial[name] = other[trial[name]]
        keys |= {"data": data} if data else {}
        keys |= {"repeats": repeats} if repeats else {}
        return yaml.safe_dump(keys, sort_keys=False)

    def baseline_of(self, row: Row, scale: str) -> dict[str, Any]:
        """The dimensions of a row's baseline at a scale."""
        values = self.scales.get(scale, Scale()).values
        return {name: values.get(name, {}).get(one, one) for name, one in row.baseline.items()}
