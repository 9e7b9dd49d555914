"""Tables of the papers: what was published, the study file that trains it, and how small it can be made.

A row is one of the study's settings, in the file's order, or the baseline of a size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "studies" / "papers" / "tables"
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


DLCG_1 = PaperTable(
    "dlcg-table-1",
    "Ehteshami Bejnordi and Krestel, Dynamic Channel and Layer Gating in Convolutional Neural Networks, KI, 2020, "
    "Table 1",
    tuple(
        Row(f"layer {layer:.2f}, channel {channel:.2f}", accuracy / 100, macs * 1e9, setting)
        for setting, (layer, channel, accuracy, macs) in enumerate(
            (
                (0.09, 0.15, 88.96, 0.0076),
                (0.07, 0.12, 89.67, 0.0089),
                (0.09, 0.10, 89.87, 0.0091),
                (0.05, 0.10, 90.59, 0.0115),
                (0.05, 0.07, 91.55, 0.0145),
                (0.02, 0.03, 91.99, 0.0206),
                (0.00, 0.03, 92.49, 0.0232),
                (0.00, 0.05, 92.74, 0.0320),
                (0.00, 0.00, 92.86, 0.0353),
            )
        )
    ),
    {
        "smoke": Scale(
            {"data": "digits", "budget": {"epochs": 1}, "repeats": 1, "train_limit": 128},
            {"backbone": "resnet8", "width": 0.25, "batch": 64},
        ),
        "cpu": Scale(
            {"budget": {"epochs": 20}, "repeats": 2, "train_limit": 5000, "image_size": 16},
            {"backbone": "resnet8", "batch": 64},
        ),
    },
    differs=(
        "crops mirror the border, where the paper's are zero there",
        "norms and biases are not decayed",
    ),
)
DT_1 = PaperTable(
    "dt-table-1",
    "Mersha, Dynamic Transformer Networks, Dynamic Neural Networks workshop at ICML, 2022, Table 1",
    tuple(
        Row(
            f"{name}, {layers} layers",
            accuracy / 100,
            setting=None if place is None else 2 * place + deeper,
            baseline={"layers": layers} if place is None else {},
        )
        for place, name, accuracies in (
            (None, "base", (68.11, 68.29)),
            (0, "WDC", (67.46, 67.55)),
            (1, "WSDC", (68.98, 67.76)),
            (2, "DT", (67.18, 66.62)),
        )
        for deeper, (layers, accuracy) in enumerate(zip((10, 16), accuracies, strict=True))
    ),
    {
        "smoke": Scale(
            {"data": "digits", "budget": {"epochs": 1}, "repeats": 1, "train_limit": 128},
            {"dim": 32, "patch": 2, "batch": 64},
            {"layers": {10: 3, 16: 4}},
        ),
        "cpu": Scale(
            {"budget": {"epochs": 20}, "repeats": 2, "train_limit": 5000, "image_size": 16},
            {"dim": 64, "batch": 64},
            {"layers": {10: 4, 16: 6}},
        ),
    },
    differs=(
        "batches of 512, where the paper's have 768 and more",
        "AdamW without AutoAugment, where the paper has Adam with it",
    ),
)
TABLES = {table.name: table for table in (DLCG_1, DT_1)}
