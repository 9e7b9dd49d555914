"""Where an exit may be attached to a network, and which of those places are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where an exit may be: behind unit `unit`, reading `channels` maps of height x width (or tokens of that size)."""

    unit: int
    channels: int
    height: int = 1
    width: int = 1


def numbered(which: str) -> str:
    """A choice of places by number, such as 0+2, each once and in order. Raises ValueError where it is none."""
    parts = which.split("+")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(
            f"{which} is not one of all, early, late, or numbers of places such as 0+2"
        )
    return "+".join(str(number) for number in sorted({int(part) for part in parts}))


def chosen(which: str, places: Sequence[Place]) -> list[Place]:
    """Those of the places that are asked for: all, the early or the late half (the larger one), or by number.

    Raises ValueError for a number that no place has.
    """
    half = (len(places) + 1) // 2
    halves = {"all": places, "early": places[:half], "late": places[len(places) - half :]}
    if which in halves:
        return list(halves[which])
    numbers = [int(number) for number in numbered(which).split("+")]
    if numbers[-1] >= len(places):
        able = f"places 0 to {len(places) - 1}" if places else "no place for an exit"
        raise ValueError(f"exit_places: {which} is not possible, this network has {able}")
    return [places[number] for number in numbers]
