"""What a study minimises besides maximising accuracy: costs as values, and amounts of them as text.

A new cost is one row of COSTS, and a measure that stands in operating points under the name of its column.
Latency is a machine's: it is known where a study names a table of times, see search.latency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, log, nan
from typing import Any

from storage.records import OperatingPoint

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
MACS_NUMBER = re.compile(
    r"\s*(\d+\.?\d*(?:e\+?\d{1,3})?|\.\d+)\s*([kmg]?)\s*(?:macs)?\s*", re.IGNORECASE
)
MILLISECONDS = re.compile(r"\s*(\d+\.?\d*(?:e[+-]?\d{1,3})?|\.\d+)\s*(?:ms)?\s*", re.IGNORECASE)
LONGEST_NUMBER = 40  # characters: matching takes time that grows with their square
MOST_MACS = 1e18


@dataclass(frozen=True)
class Shape:
    """What a network costs by its shapes alone: MACs per image with everything computed, and parameters.

    `latency_ms` of an image on the machine of a latency table, where the study has one.
    """

    macs: int
    parameters: int
    latency_ms: float | None = None


@dataclass(frozen=True)
class Cost:
    """One cost: how study files call it, where it stands in an operating point, how it is shown.

    `column` is a field of operating points or a key of their `extra`; `of_baseline` is what the cost is for a baseline
    of these shapes. `measure` names what is measured: the reference point has one value for each, and a study takes one
    cost of each. `falls_in_training`: whether a training may end cheaper than it is now, as gates learn to close.
    `read` is an amount as a person writes it, `write` the amount without its unit. `needed` is a key of study files
    without which it is not measured.
    """

    name: str
    column: str
    label: str
    unit: str
    measure: str
    of_baseline: Callable[[Shape], float]
    falls_in_training: bool = True
    read: Callable[[str | float], float] = lambda text: float(macs_number(text))
    write: Callable[[float], str] = lambda amount: macs_text(amount)
    needed: str | None = None
    least: float = 1.0  # that a logarithmic axis shows

    def of(self, point: OperatingPoint) -> float:
        """What an operating point costs; one of which that was not measured costs without end."""
        own = getattr(point, self.column, None)
        return float(point.extra.get(self.column, inf) if own is None else own)

    def shown(self, point: OperatingPoint) -> float:
        """What it costs, on an axis that has no place for zero."""
        return max(self.least, self.of(point))

    def text(self, amount: float) -> str:
        """The amount with its unit: "20.0 M MACs", "1.5 ms"."""
        return f"{self.write(amount)} {self.unit}"


Costs = Sequence[Cost]  # what is minimised: one cost, several, or none (the most accurate alone)
MACS = Cost(
    name="macs",
    column="macs_mean",
    label="MACs per image (mean)",
    unit="MACs",
    measure="macs",
    of_baseline=lambda shape: shape.macs,
)
MACS_P95 = Cost(
    name="macs_p95",
    column="macs_p95",
    label="MACs per image (95th percentile)",
    unit="MACs",
    measure="macs",
    of_baseline=lambda shape: shape.macs,
)
PARAMETERS = Cost(
    name="parameters",
    column="parameters",
    label="parameters",
    unit="parameters",
    measure="parameters",
    of_baseline=lambda shape: shape.parameters,
    falls_in_training=False,
)
LATENCY = Cost(
    name="latency",
    column="latency_mean",
    label="latency per image (mean, ms)",
    unit="ms",
    measure="latency",
    of_baseline=lambda shape: inf if shape.latency_ms is None else shape.latency_ms,
    read=lambda text: milliseconds(text),
    write=lambda amount: f"{amount:.3g}",
    needed="latency",
    least=1e-6,
)
LATENCY_P95 = replace(
    LATENCY,
    name="latency_p95",
    column="latency_p95",
    label="latency per image (95th percentile, ms)",
)
COSTS: dict[str, Cost] = {
    cost.name: cost for cost in (MACS, MACS_P95, PARAMETERS, LATENCY, LATENCY_P95)
}


def costs_of(keys: Mapping[str, Any]) -> dict[str, Cost]:
    """The costs by name that are measured in a study with these keys in its file."""
    return {name: one for name, one in COSTS.items() if one.needed is None or keys.get(one.needed)}


@dataclass(frozen=True, init=False)
class Reference:
    """The reference point that fronts are measured from: accuracy at chance, and the largest baseline's costs."""

    accuracy: float
    largest: Mapping[str, float]  # by what is measured: "macs", "parameters", "latency"

    def __init__(self, *, accuracy: float, **largest: float | None) -> None:
        known = {measure: value for measure, value in largest.items() if value is not None}
        object.__setattr__(self, "accuracy", accuracy)
        object.__setattr__(self, "largest", known)
        if not 0 <= accuracy < 1:
            raise ValueError(
                f"reference accuracy {accuracy} is not in [0, 1); give the chance level"
            )
        for measure, value in known.items():
            if not 0 < value < float("inf"):
                raise ValueError(
                    f"reference {measure} {value} is not above 0; give the largest baseline's"
                )

    def of(self, cost: Cost) -> float:
        """The reference point's cost: more of it counts for nothing."""
        if cost.measure not in self.largest:
            raise ValueError(
                f"the reference has no {cost.measure}; the study does not minimise {cost.name}"
            )
        return self.largest[cost.measure]

    def as_dict(self) -> dict[str, float]:
        """As it is stored; `Reference(**values)` reads it."""
        return {"accuracy": self.accuracy, **self.largest}


def outlook_of(costs: Sequence[Cost], compute: float | None) -> list[float] | None:
    """What each cost will be at the end of a training over what it is now, from what compute will be; None: unknown."""
    if compute is None:
        return None
    return [compute if cost.falls_in_training else 1.0 for cost in costs]


def macs_number(text: str | float) -> int:
    """10_000_000 for "10M": a number with k, M or G. Raises ValueError on anything else."""
    given = str(text)
    match = MACS_NUMBER.fullmatch(given) if len(given) <= LONGEST_NUMBER else None
    if match is None:
        raise ValueError(
            f"{given[:LONGEST_NUMBER]!r} is not a number of MACs; write it like 500k, 10M or 1.5G"
        )
    number, unit = match.groups()
    macs = float(number) * UNITS[unit.lower() if unit in "kK" else unit.upper()]
    if macs > MOST_MACS:
        raise ValueError(f"{given!r} is more than any network has; write it like 500k, 10M or 1.5G")
    if round(macs) < 1:
        raise ValueError(f"{given!r} is less than one MAC; write it like 500k, 10M or 1.5G")
    return round(macs)


def milliseconds(text: str | float) -> float:
    """1.5 for "1.5" or "1.5 ms". Raises ValueError on anything else."""
    given = str(text)
    match = MILLISECONDS.fullmatch(given) if len(given) <= LONGEST_NUMBER else None
    found = nan if match is None or isinstance(text, bool) else float(match.group(1))
    if not (isfinite(found) and found > 0):
        raise ValueError(
            f"{given[:LONGEST_NUMBER]!r} is not a number of milliseconds; write it like 1.5"
        )
    return found


def macs_text(macs: float) -> str:
    """Three significant digits and a unit: "1.20 M" for 1.2e6."""
    rounded = float(f"{macs:.3g}")
    for unit, scale in reversed(UNITS.items()):
        if abs(rounded) >= scale and unit:
            shown = rounded / scale
            decimals = max(0, 2 - int(log(abs(shown) + 1e-9, 10)))
            return f"{shown:.{decimals}f} {unit}"
    return f"{rounded:.0f}"
