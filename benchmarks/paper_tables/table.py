"""Tables of the papers: what was published, the study file that trains it, and how small it can be made.

A row is one of the study's settings, in the file's order, or the baseline of a size, and one reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parents[2] / "studies" / "papers" / "tables"
SCALES = ("smoke", "cpu", "gpu")
HELD_OUT = "2 % of the training images are held out, where the paper has no validation images"
CENTRE = "parts are cut out of the largest centred square of an image at 256 pixels, not of the whole photo"
# keys of a study file at smoke scale
TINY: dict[str, Any] = {
    "data": "digits",
    "budget": {"epochs": 1},
    "repeats": 1,
    "train_limit": 128,
    "validation": 0.1,
}
# at cpu scale: a table takes 5 to 20 minutes of one core. So little training tells ten classes apart, not a hundred
SMALL: dict[str, Any] = {
    "data": "cifar10",
    "budget": {"epochs": 12},
    "repeats": 2,
    "train_limit": 5000,
    "image_size": 16,
    "validation": 0.1,
    "validation_limit": 500,
}
FEWER_EPOCHS: dict[str, Any] = {"budget": {"epochs": 8}}  # of a network that takes longer
MORE_EPOCHS: dict[str, Any] = {"budget": {"epochs": 20}}  # of networks that learn later


@dataclass(frozen=True)
class Row:
    """What was published of one network: test accuracy, as a share, and what else the table has; None: nothing.

    `setting` is its place among the study's settings. A `baseline` is found by its dimensions instead; it is left out
    at a scale that leaves out the setting `beside` it. `reading` is what is read of the network, a name of READINGS in
    readings.py, `exit` the exit that it is of. `rate` is the mean open rate of layer gates, `share` that of the images
    that are answered there.
    """

    label: str
    accuracy: float | None
    macs: float | None = None
    setting: int | None = None
    baseline: Mapping[str, Any] = field(default_factory=dict)
    beside: int = 0
    reading: str = "trained"
    exit: int = 0
    rate: float | None = None
    share: float | None = None
    top5: float | None = None


class Other(NamedTuple):
    """What the paper says of somebody else's method: test accuracy, as a share, MACs and top-5. Nothing is trained."""

    label: str
    accuracy: float
    macs: float | None = None
    top5: float | None = None


@dataclass(frozen=True)
class Scale:
    """Changes that make a study file smaller: its keys, those of every family's space, values by other values.

    Of the settings, those at the `kept` places are trained; all where none is named.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    kept: Sequence[int] = ()

    def place(self, setting: int) -> int | None:
        """Where a setting of the whole table stands at this scale; None where it is left out."""
        if not self.kept:
            return setting
        return self.kept.index(setting) if setting in self.kept else None


@dataclass(frozen=True)
class PaperTable:
    """A table, where it is from, and what the exact study still does differently."""

    name: str  # of its study file
    source: str
    rows: tuple[Row, ...]
    scales: Mapping[str, Scale]
    differs: tuple[str, ...] = ()
    others: tuple[Other, ...] = ()

    def text(self, scale: str, data: str | None = None, repeats: int | None = None) -> str:
        """The study file at a scale; "gpu" is as published."""
        keys: dict[str, Any] = yaml.safe_load((FOLDER / f"{self.name}.yml").read_text())
        small = self.scales.get(scale, Scale())
        keys |= small.keys
        for space in keys["space"].values():
            space.update(small.space)
        keys["trials"] = [one for i, one in enumerate(keys["trials"]) if small.place(i) is not None]
        for trial in keys["trials"]:
            for name, other in small.values.items():
                if name in trial:
                    trial[name] = other[trial[name]]
        keys |= {"data": data} if data else {}
        keys |= {"repeats": repeats} if repeats else {}
        return yaml.safe_dump(keys, sort_keys=False)

    def rows_at(self, scale: str) -> list[Row]:
        """The rows that are trained at a scale, with their places among its settings and its baselines."""
        small, found = self.scales.get(scale, Scale()), []
        for row in self.rows:
            if row.setting is not None:
                if (place := small.place(row.setting)) is not None:
                    found.append(replace(row, setting=place))
            elif small.place(row.beside) is not None:
                found.append(replace(row, baseline=_changed(row.baseline, small)))
        return found


def _changed(values: Mapping[str, Any], small: Scale) -> dict[str, Any]:
    return {name: small.values.get(name, {}).get(one, one) for name, one in values.items()}
