"""Where an exit may be attached to a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where an exit may be: behind unit `unit`, reading `channels` maps of height x width (or tokens of that size)."""

    unit: int
    channels: int
    height: int = 1
    width: int = 1
