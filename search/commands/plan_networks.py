"""Networks that `dynafront init` chooses among: families, their sizes, and recipes of trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Networks:
    """What a study can search: a family, sizes of it, and the largest size as values of its dimensions.

    `trained` is the timm model whose trained weights they start from, those of the file `weights` or, without one, its
    published ones; empty where they start from random ones.
    """

    family: str
    space: Mapping[str, Any]
    largest: Mapping[str, Any]
    sizes: int
    trained: str = ""
    weights: str = ""
    frozen: bool = False

    def with_frozen_trunk(self) -> Networks:
        """The same, but only exits are trained, as in studies/frozen.yml."""
        kept = {key: self.space[key] for key in ("backbone", "pretrained") if key in self.space}
        return replace(self, space=kept | FROZEN, frozen=True)


def _resnets(backbones: list[str], widths: list[float]) -> Networks:
    space = {"backbone": backbones, "width": widths}
    largest = {"backbone": backbones[-1], "width": widths[-1]}
    return Networks("gated_resnet", space, largest, len(backbones) * len(widths))


def _mobilenets(widths: list[float]) -> Networks:
    return Networks("gated_mobilenet", {"width": widths}, {"width": widths[-1]}, len(widths))


def trained(backbone: str, weights: str = "") -> Networks:
    """A timm model with trained weights, under the recipe of studies/pretrained.yml."""
    published = {} if weights else {"pretrained": True}
    space = {"backbone": backbone, **published, "dynamics": "both", **FINE_TUNING}
    largest = {"backbone": backbone, "dynamics": "both"}
    return Networks("timm", space, largest, 1, trained=backbone, weights=weights)


FINE_TUNING = {
    "crop": "resized",
    "label_smoothing": 0.1,
    "gate_lr_mult": 10.0,
    "head_lr_mult": 10.0,
    "ema": 0.99,
    "distill": [0.0, 0.5],
}
FROZEN = {
    "trunk": "frozen",
    "feature_views": 2,
    "dynamics": "exits",
    "exits": "linear",
    "exit_reads": ["all", "own"],
    "exit_places": ["all", "late"],
    "lr": {"low": 0.01, "high": 0.05},
    "weight_decay": {"low": 0.0001, "high": 0.01},
}
# the cheapest first
FOR_PHOTOS = (trained("mobilenetv2_050"), trained("mobilenetv2_100"), trained("efficientnet_b0"))
FOR_SMALL_IMAGES = (
    _resnets(["resnet8"], [0.25, 0.5]),
    _resnets(["resnet8", "resnet14"], [0.25, 0.5]),
    _resnets(["resnet8", "resnet14"], [0.5, 1.0]),
    _resnets(["resnet8", "resnet14", "resnet20"], [1.0]),
    _resnets(["resnet14", "resnet20", "resnet32"], [1.0]),
)
FOR_LARGE_IMAGES = (
    _mobilenets([0.25, 0.35]),
    _mobilenets([0.25, 0.35, 0.5]),
    _mobilenets([0.35, 0.5, 0.75]),
    _mobilenets([0.5, 0.75, 1.0]),
)
