"""A space as a study file changes it: a value fixes a dimension, a list or a range narrows it.

What a study file may name is what makes sense, see `Dimension.ends`; what is searched unless it says so is less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from spaces.contract.space import Dimension, nearest, word


def narrowed(
    space: Iterable[Dimension], changes: Mapping[str, object], where: str
) -> tuple[Dimension, ...]:
    """The space with each named dimension fixed (a value) or narrowed (a list, or {low, high}).

    Raises ValueError with one line that starts with `where` and names the dimension, what was given, what is
    allowed.
    """
    space = tuple(space)
    known = {dimension.name: dimension for dimension in space}
    for name in changes:
        if name not in known:
            raise ValueError(f"{where}.{name}: no such dimension{nearest(name, known)}")
    return tuple(
        _narrow(d, changes[d.name], f"{where}.{d.name}") if d.name in changes else d for d in space
    )


def _narrow(dimension: Dimension, change: object, where: str) -> Dimension:
    if isinstance(change, Mapping):
        return _narrow_range(dimension, change, where)
    values = list(change) if isinstance(change, list | tuple) else [change]
    if not values:
        raise ValueError(f"{where}: an empty list; allowed: {dimension.allowed()}")
    for value in values:
        _check(dimension, value, where)
    cast = {"float": float, "int": int}.get(dimension.kind, dimension.canonical)
    chosen = tuple(cast(value) for value in values)
    if len(set(chosen)) < len(chosen):
        twice = next(value for value in chosen if chosen.count(value) > 1)
        raise ValueError(f"{where}: {word(twice)} stands there twice")
    default = dimension.default if dimension.default in chosen else chosen[0]
    return dataclasses.replace(
        dimension, kind="choice", choices=chosen, default=default, searched=True, accepts=None
    )


def _narrow_range(dimension: Dimension, change: Mapping[str, object], where: str) -> Dimension:
    if dimension.kind == "choice":
        raise ValueError(
            f"{where}: takes a value or a list out of {dimension.allowed()}, not low and high"
        )
    unknown = set(change) - {"low", "high"}
    if unknown or not change:
        raise ValueError(
            f"{where}: takes {{low, high}}, not {', '.join(sorted(map(str, unknown))) or 'nothing'}"
        )
    low, high = change.get("low", dimension.low), change.get("high", dimension.high)
    for value in (low, high):
        _check(dimension, value, where)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low > high:
        other = {"low": "; give high too", "high": "; give low too"}
        missing = "" if len(change) > 1 else other[next(iter(change))]
        raise ValueError(f"{where}: low {low:g} is above high {high:g}{missing}")
    if dimension.log and low <= 0:
        raise ValueError(
            f"{where}: low {low:g}: the range is searched on a logarithmic scale; write a low above 0, or a list"
        )
    default = min(max(float(dimension.default), low), high)
    cast = int if dimension.kind == "int" else float
    return dataclasses.replace(
        dimension, low=cast(low), high=cast(high), default=cast(default), searched=True
    )


def _check(dimension: Dimension, value: object, where: str) -> None:
    """Raise ValueError, saying what is allowed, when the value is not one of the dimension's."""
    if dimension.contains(value):
        return
    if value is None:
        raise ValueError(f"{where}: no value; allowed: {dimension.allowed()}")
    if dimension.kind == "choice":
        try:
            dimension.canonical(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    least, most = dimension.ends
    between = f"between {least:g} and {most:g}"
    if isinstance(value, str):
        # YAML reads 1e-3, without a dot, as text
        raise ValueError(f"{where}: {value} is text, not a number {between}{_as_number(value)}")
    number = "a whole number " if dimension.kind == "int" else ""
    raise ValueError(f"{where}: {word(value)} is not {number}{between}")


def _as_number(text: str) -> str:
    try:
        return f"; write {float(text)}"
    except ValueError:
        return ""


def for_trained_weights(space: Iterable[Dimension], *, every: bool) -> tuple[Dimension, ...]:
    """The space of trainings that start from trained weights: its `tuned` ranges and defaults.

    With every=False some start from random weights, and ranges span both.
    """
    return tuple(_tuned(d, every=every) for d in space)


def _tuned(dimension: Dimension, *, every: bool) -> Dimension:
    tuned = dict(dimension.tuned)
    if not every:
        if "low" not in tuned:
            return dimension
        low, high = float(tuned["low"]), float(tuned["high"])
        tuned = {"low": min(low, dimension.low), "high": max(high, dimension.high)}
    return dataclasses.replace(dimension, **tuned)  # type: ignore[arg-type]
