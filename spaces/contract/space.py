"""Dimensions of a search space, declared once as dataclass fields.

A config class states each dimension where it states the field: range, default, the condition under which the
dimension matters, and whether a study searches it unless told otherwise. Sampling, the printed space, the study
file's narrowing and the typed config all read that one declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str
LONGEST_WORD = 100  # characters of a value in a message


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that can be searched: a choice, or a range of floats or integers.

    `when` names the values that other dimensions must have for this one to matter; all entries must hold.
    `searched` says whether a study varies it unless its file says otherwise; if not, the default is used.

    `later` dimensions came after studies had been stored. With its default, such a one is as if it were not there:
    candidates are told apart without it, and samplers do not see it unless it is searched.
    """

    kind: str  # "choice", "float" or "int"
    default: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    later: bool = False
    when: Mapping[str, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    searched: bool = True
    doc: str = ""
    name: str = ""
    # of an open choice: the value of a text that is not listed; ValueError
    accepts: Callable[[str], str] | None = None

    @property
    def fixed(self) -> bool:
        return not self.searched or (self.kind == "choice" and len(self.choices) == 1)

    def contains(self, value: object) -> bool:
        if self.kind == "choice":
            try:
                self.canonical(value)
            except ValueError:
                return False
            return True
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (self.kind == "float" or value == int(value))

    def canonical(self, value: object) -> Value:
        """The choice that is meant. Raises ValueError, saying what is allowed, where it is none."""
        for one in self.choices:
            if _same(value, one):
                return one
        if (
            self.accepts is not None
            and isinstance(value, str | int)
            and not isinstance(value, bool)
        ):
            return self.accepts(str(value))  # YAML reads a text of digits as a number
        raise ValueError(f"{_word(value)} is not one of {self.allowed()}")

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Value:
        """The value that an Optuna trial takes for this dimension under the parameter name `name`."""
        if self.kind == "choice":
            found = trial.suggest_categorical(name, self.choices)
            assert found is not None
            return found
        if self.kind == "int":
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def allowed(self) -> str:
        """The range in words, for messages and tables."""
        if self.kind == "choice":
            return ", ".join(
                [*(_word(choice) for choice in self.choices), *(["..."] if self.accepts else [])]
            )
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    def condition(self) -> str:
        """The condition in words; empty when the dimension always matters."""
        return " and ".join(
            f"{name} = {' or '.join(_word(v) for v in values)}"
            for name, values in self.when.items()
        )


class Shared(TypedDict, total=False):
    """What any declaration can say beside its values, see Dimension."""

    when: Mapping[str, tuple[Value, ...]]
    searched: bool
    later: bool
    doc: str


class Ranged(Shared, total=False):
    """What the declaration of a range can say beside its ends."""

    log: bool


def choice(
    *choices: Value,
    default: Value | None = None,
    accepts: Callable[[str], str] | None = None,
    **shared: Unpack[Shared],
) -> Any:
    """A dataclass field that is one of `choices`, or a text that `accepts` returns without ValueError.

    Without a `default` it is the first of them.
    """
    first = choices[0] if default is None else default
    return _declared(
        Dimension(kind="choice", default=first, choices=choices, accepts=accepts, **shared)
    )


def one_of(*names: str) -> Callable[[str], str]:
    """What an open choice `accepts` when it can be more than a study draws unasked: these names."""

    def accepted(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text} is not one of {', '.join(names)}")
        return text

    return accepted


def flag(*, default: bool, **shared: Unpack[Shared]) -> Any:
    """A dataclass field that is true or false."""
    return choice(False, True, default=default, **shared)


def real(low: float, high: float, *, default: float, **ranged: Unpack[Ranged]) -> Any:
    """A dataclass field that is a float from low to high (both included)."""
    return _declared(Dimension(kind="float", default=default, low=low, high=high, **ranged))


def whole(low: int, high: int, *, default: int, **ranged: Unpack[Ranged]) -> Any:
    """A dataclass field that is an integer from low to high (both included)."""
    return _declared(Dimension(kind="int", default=default, low=low, high=high, **ranged))


def dimensions(config: type) -> tuple[Dimension, ...]:
    """The dimensions that a config dataclass declares, in field order (conditions refer to earlier ones).

    Those whose condition cannot hold in this config, for it asks for a value that none of its dimensions takes, are no
    part of its space: configs share fields that only some of them can use.
    """
    found: dict[str, Dimension] = {}
    later = {f.name for f in fields(config) if "dimension" in f.metadata}
    for f in fields(config):
        if "dimension" not in f.metadata:
            continue
        dimension = dataclasses.replace(f.metadata["dimension"], name=f.name)
        if early := later & set(dimension.when):
            raise TypeError(
                f"{config.__name__}.{f.name} depends on {', '.join(sorted(early))}, which is declared later"
            )
        later.discard(f.name)
        possible = {
            name: tuple(value for value in values if name in found and found[name].contains(value))
            for name, values in dimension.when.items()
        }
        if all(possible.values()):
            found[f.name] = dataclasses.replace(dimension, when=possible)
    return tuple(found.values())


def only_under(when: Mapping[str, tuple[Value, ...]], *configs: type) -> Callable[[type], type]:
    """A class decorator: dimensions that come from these configs matter only where `when` holds too."""

    def conditioned(config: type) -> type:
        own: dict[str, Any] = config.__dataclass_fields__  # type: ignore[attr-defined]
        for name in {f.name for base in configs for f in fields(base) if "dimension" in f.metadata}:
            found = own[name].metadata.get("dimension")
            if found is not None:
                own[name] = copy(own[name])
                own[name].metadata = {
                    "dimension": dataclasses.replace(found, when={**when, **found.when})
                }
        return config

    return conditioned


def suggested(
    trial: optuna.trial.BaseTrial, space: Iterable[Dimension], prefix: str
) -> dict[str, Value]:
    """A value for every dimension: drawn from the trial where it matters and is searched, else its default.

    Only dimensions that matter under the values drawn before are asked of the trial, so a sampler never models
    a parameter that did nothing.
    """
    values: dict[str, Value] = {}
    active: set[str] = set()
    for dimension in space:
        values[dimension.name] = dimension.default
        if not matters(dimension, values, active):
            continue
        active.add(dimension.name)
        if dimension.kind == "choice" and len(dimension.choices) == 1:
            values[dimension.name] = dimension.choices[0]
        elif dimension.searched:
            values[dimension.name] = dimension.suggest(trial, f"{prefix}.{dimension.name}")
    return values


def active_names(space: Iterable[Dimension], values: Mapping[str, Value]) -> tuple[str, ...]:
    """The names of the dimensions that matter under these values."""
    active: set[str] = set()
    names = []
    for dimension in space:
        if matters(dimension, values, active):
            active.add(dimension.name)
            names.append(dimension.name)
    return tuple(names)


def matters(dimension: Dimension, values: Mapping[str, Value], active: set[str]) -> bool:
    """Whether the dimension's condition holds; a condition on a dimension that does not matter never does."""
    return all(
        name in active and values[name] in allowed for name, allowed in dimension.when.items()
    )


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


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' or, when nothing is near, the list of what is known."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else f"; known: {', '.join(known)}"


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
        raise ValueError(f"{where}: {_word(twice)} stands there twice")
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
        raise ValueError(f"{where}: low {low:g} is above high {high:g}")
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
    between = f"between {dimension.low:g} and {dimension.high:g}"
    if isinstance(value, str):
        # YAML reads 1e-3, without a dot, as text
        raise ValueError(f"{where}: {value} is text, not a number {between}{_as_number(value)}")
    number = "a whole number " if dimension.kind == "int" else ""
    raise ValueError(f"{where}: {_word(value)} is not {number}{between}")


def _as_number(text: str) -> str:
    try:
        return f"; write {float(text)}"
    except ValueError:
        return ""


def _same(value: object, choice: object) -> bool:
    if isinstance(value, bool) != isinstance(choice, bool):
        return False
    return value == choice


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:LONGEST_WORD]


def _declared(dimension: Dimension) -> Any:
    return field(default=dimension.default, metadata={"dimension": dimension})
