"""Which of a file's operating points answers an image. Without torch."""

from __future__ import annotations

from typing import Any

from search.objectives import macs_text


def thresholds_for(
    description: dict[str, Any], *, point: int | None = None, max_macs: float | None = None
) -> list[float] | None:
    """The thresholds of the point with this number, or of the most accurate one of at most so many MACs an image.

    None where neither is given: the point that was chosen. MACs are the mean over the validation images.
    Raises ValueError where the file has no such point.
    """
    if point is None and max_macs is None:
        return None
    if point is not None and max_macs is not None:
        raise ValueError("give a point or a limit of MACs, not both")
    points: list[dict[str, Any]] = description.get("points", [])
    if not points:
        raise ValueError("the model has one operating point, its own; export the training again")
    found = _numbered(points, point) if point is not None else _within(points, max_macs or 0.0)
    return list(found["thresholds"])


def _numbered(points: list[dict[str, Any]], number: int) -> dict[str, Any]:
    for one in points:
        if one["number"] == number:
            return one
    raise ValueError(f"point {number}: the model has points 1 to {len(points)}")


def _within(points: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    within = [one for one in points if one["validation"]["macs_mean"] <= limit]
    if not within:
        least = min(one["validation"]["macs_mean"] for one in points)
        raise ValueError(
            f"{macs_text(limit)} MACs: the model's cheapest point takes {macs_text(least)}"
        )
    return max(within, key=lambda one: float(one["validation"]["accuracy"]))
