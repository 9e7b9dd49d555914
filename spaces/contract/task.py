"""What a network is built for: image size, number of classes, pixel statistics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Task:
    """An image classification task. `mean` and `std` are per channel, of pixels in [0, 1]."""

    channels: int
    height: int
    width: int
    classes: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def at(self, side: int | None) -> Task:
        """The same task with square images of this side; with None as it is."""
        return self if side is None else replace(self, height=side, width=side)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
