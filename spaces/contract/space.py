"""Dimensions of a search space, declared once as dataclass fields.

A config class states each dimension where it states the field: range, default, the condition under which the
dimension matters, and whether a study searches it unless told otherwise. Sampling, the printed space, the study
file's narrowing (spaces/contract/narrowing.py) and the typed config all read that one declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str
LONGEST_WORD = 100  # characters of a value in a message
# what a study file may name of a share or probability, of one that is divided by, of a weight or factor, a temperature
SHARE, PART, BELOW_ONE = (0.0, 1.0), (0.001, 1.0), (0.0, 0.9999)
WEIGHT, WARMTH = (0.0, 1e6), (0.01, 1000.0)


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that can be searched: a choice, or a range of floats or integers.

    `when` names the values that other dimensions must have for this one to matter; all entries must hold.
    `searched` says whether a study varies it unless its file says otherwise; if not, the default is used. A range is
    searched from `low` to `high`; a study file may name any number of `within`. `tuned` are the fields of this
    dimension that are others where trained weights are loaded: `low`, `high`, `default`, `searched`.

    `later` dimensions came after studies had been stored. With its default, such a one is as if it were not there:
    candidates are told apart without it, and samplers do not see it unless it is searched.
    """

    kind: str  # "choice", "float" or "int"
    default: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    within: tuple[float, float] | None = None  # None: low and high
    tuned: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    later: bool = False
    when: Mapping[str, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    searched: bool = True
    doc: str = ""
    name: str = ""
    # of an open choice: the value of a text that is not listed; ValueError
    accepts: Callable[[str], Value] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most number that a study file may name."""
        return self.within or (self.low, self.high)

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
        least, most = self.ends
        return least <= value <= most and (self.kind == "float" or value == int(value))

    def canonical(self, value: object) -> Value:
        """The choice that is meant. Raises ValueError, saying what is allowed, where it is none."""
        for one in self.choices:
            if _same(value, one):
                return one
        if (
            self.accepts is not None
            and isinstance(value, str | int | float)
            and not isinstance(value, bool)
        ):
            return self.accepts(str(value))  # YAML reads a text of digits as a number
        raise ValueError(f"{word(value)} is not one of {self.allowed()}")

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
                [*(word(choice) for choice in self.choices), *(["..."] if self.accepts else [])]
            )
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    @property
    def taken(self) -> tuple[Value, ...]:
        """The choices that candidates take: all that are searched, else the default."""
        return self.choices if self.searched else (self.default,)

    def condition(self) -> str:
        """The condition in words; empty when the dimension always matters."""
        return " and ".join(
            f"{name} = {' or '.join(word(v) for v in values)}" for name, values in self.when.items()
        )


class Shared(TypedDict, total=False):
    """What any declaration can say beside its values, see Dimension."""

    when: Mapping[str, tuple[Value, ...]]
    searched: bool
    tuned: Mapping[str, Value]
    later: bool
    doc: str


class Ranged(Shared, total=False):
    """What the declaration of a range can say beside its ends."""

    log: bool
    within: tuple[float, float]


def choice(
    *choices: Value,
    default: Value | None = None,
    accepts: Callable[[str], Value] | None = None,
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


def whole_from(least: int, most: int) -> Callable[[str], int]:
    """What an open choice `accepts` when it can be any whole number from least to most."""

    def accepted(text: str) -> int:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most or number != int(number):
            raise ValueError(f"{text} is not a whole number between {least} and {most}")
        return int(number)

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
    # a loop takes half as long as all(), and each candidate that is drawn asks this a hundred times
    for name, allowed in dimension.when.items():  # noqa: SIM110
        if name not in active or values[name] not in allowed:
            return False
    return True


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' or, when nothing is near, the list of what is known."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else f"; known: {', '.join(known)}"


def _same(value: object, choice: object) -> bool:
    if isinstance(value, bool) != isinstance(choice, bool):
        return False
    return value == choice


def word(value: object) -> str:
    """A value as messages and tables show it."""
    return str(value).lower() if isinstance(value, bool) else str(value)[:LONGEST_WORD]


def _declared(dimension: Dimension) -> Any:
    return field(default=dimension.default, metadata={"dimension": dimension})
