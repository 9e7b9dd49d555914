"""What a sampler is, what it draws from, and the known-good candidates that come before it.

`suggest` gives the parameters of a trial, `observe` takes what became of one, `think_ahead` begins to compute the next
suggestion. A sampler decides from (study seed, trial number) and what was observed when it began to think, so speed
decides nothing, and a study that goes on after an interruption decides as one without, and never repeats its first
random trials.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import optuna

from search.schedule.growth import is_ordered
from search.schedule.history import History, Params, Training
from search.schedule.warm_start import recommended
from spaces.contract.family import Candidate, Family
from spaces.contract.registry import family
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension, Value, suggested

if TYPE_CHECKING:
    from search.schedule.ranking import Ranks

Spaces = Mapping[str, tuple[Dimension, ...]]
Epochs = Callable[[str], int]  # of a trial of a family
# why a candidate is infeasible in this study, if it is
Limit = Callable[[Candidate], str | None]
STARTUP = 6  # trials before a model-based sampler models


class Sampler(Protocol):
    """Chooses what to train next."""

    def think_ahead(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> None:
        """Begin to compute what `suggest` is asked for next, with the same arguments."""
        ...

    def suggest(
        self, number: int, history: History, epochs: Epochs, given: Params | None = None
    ) -> Params:
        """The parameters of trial `number`; those that are `given` are decided already."""
        ...

    def observe(self, number: int, training: Training) -> None:
        """What is known of a trial now: that it was suggested, after a rung, at its end, or that it failed."""
        ...

    @property
    def ready(self) -> bool:
        """Whether `suggest` need not wait for what is being computed."""
        ...

    def settle(self) -> None:
        """Wait until nothing is being computed."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a sampler is made for.

    `size` is what a candidate's baseline costs, in shares of the reference point; `epoch_cost` the epochs that training
    a candidate takes, with its part of a baseline that is not among those that are `trained`, by key. `ranks`: what
    ranks candidates for `growth`, if not this process.
    """

    spaces: Spaces
    costs: int
    seed: int
    trials: int
    size: Callable[[Candidate], Sequence[float]]
    epoch_cost: Callable[[Candidate, AbstractSet[str]], float]
    trained: Callable[[], AbstractSet[str]] = frozenset
    limit: Limit = lambda _: None
    # of a trial of a family, where there are two lengths of the short ones
    short: Epochs = lambda _: 1
    given: int = 0  # how many trials, the first ones, have their parameters given
    together: int = 1  # suggestions that one look at what is known may answer
    # those that are still to be made: a study keeps them over an interruption
    ahead: deque[Params] = field(default_factory=deque)
    ranks: Ranks | None = None

    def is_full(self, candidate: Candidate) -> bool:
        """Whether a training is longer than the family's short ones."""
        return is_full(candidate, self.short)


def is_full(candidate: Candidate, short: Epochs) -> bool:
    """Whether a training is longer than its family's short ones."""
    return candidate.recipe.epochs > short(candidate.family.name)


class InfeasibleError(ValueError):
    """A combination of parameters that cannot be trained, and why."""

    def __init__(self, family_name: str, values: dict[str, Value], reason: str) -> None:
        super().__init__(reason)
        self.family, self.values = family_name, values


def draw_candidate(trial: Any, spaces: Spaces, epochs: Epochs) -> Candidate:
    """The candidate that an Optuna trial, or what takes its place, draws. Raises InfeasibleError."""
    names = sorted(spaces)
    name = trial.suggest_categorical("family", names) if len(names) > 1 else names[0]
    values = suggested(trial, spaces[name], name)
    try:
        return Candidate.of(family(name), values, epochs(name))
    except ValueError as error:
        raise InfeasibleError(name, values, str(error)) from None


class Given:
    """Takes the place of an Optuna trial whose parameters are known, all that are asked for; they are not checked."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> Value:
        return self.params[name]

    suggest_int = suggest_float


def replay_params(params: Params, spaces: Spaces) -> optuna.trial.FixedTrial:
    """These parameters as Optuna records them when a trial draws them: those that matter, with their distributions."""
    fixed = optuna.trial.FixedTrial({"family": "", **params})
    with suppress(InfeasibleError):
        draw_candidate(fixed, spaces, lambda _: 1)
    return fixed


def params_of(name: str, values: Mapping[str, Value], spaces: Spaces) -> Params:
    """A family's values as Optuna names them."""
    params = {f"{name}.{key}": value for key, value in values.items()}
    return replay_params({"family": name, **params}, spaces).params


def starting_points(spaces: Spaces) -> list[dict[str, Value]]:
    """Known-good candidates: each family's recommended settings, then at its smallest size."""
    found: list[dict[str, Value]] = []
    for smallest in (False, True):
        for name in sorted(spaces):
            values = recommended(spaces[name])
            if smallest:
                values |= _smallest(family(name), spaces[name])
            params = {f"{name}.{key}": value for key, value in values.items()}
            params |= {"family": name} if len(spaces) > 1 else {}
            if params not in found:
                found.append(params)
    return found


def _smallest(own: Family, space: Sequence[Dimension]) -> dict[str, Value]:
    """The least of each searched size; of names, such as backbones, the first in the family's order: the smallest."""
    order, found = {d.name: d.choices for d in own.space}, {}
    for d in space:
        if d.name in (*own.size_dimensions, IMAGE_SIZE) and d.kind == "choice" and d.searched:
            known = [value for value in order.get(d.name, ()) if value in d.choices]
            found[d.name] = min(d.choices) if is_ordered(d) else [*known, *d.choices][0]
    return found


@contextmanager
def quiet_experimental_warnings() -> Iterator[None]:
    """Quiet about what Optuna marks experimental and we chose knowingly: group TPE, GP, metric names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def trial_seed(study_seed: int, number: int) -> int:
    """A seed for one trial: far from its neighbours', below 2^31."""
    mixed = (
        study_seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB
    ) % 2**64
    return (mixed ^ (mixed >> 29)) % (2**31 - 1)
