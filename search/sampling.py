"""Which candidate to train next: known-good ones first, then by a sampler that knows what was told so far.

Optuna holds the study: every candidate is one of its trials, whatever chose its parameters. The sampler `growth`
chooses by the whole curves of all trainings (see search.growth); Optuna's own samplers are told the one operating point
that a training was made for. Whoever chooses does so from (study seed, trial number) and what was told by then, so a
resumed study goes on from there and never replays its start-up trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from search import growth
from search.curves import Curve, layers, loss_within, own_front
from search.plain_nets import recommended
from spaces.family import Candidate, Family
from spaces.registry import family
from spaces.space import Dimension, Value, suggested

Spaces = Mapping[str, tuple[Dimension, ...]]
Epochs = Callable[[str], int]  # of a trial of a family
Limit = Callable[[Candidate], str | None]  # why a candidate is beyond what the study allows, if it is
Size = Callable[[Candidate], Sequence[float]]  # what its plain network costs, in shares of the box
Price = Callable[[Candidate], float]  # epochs that training a candidate takes, with those of what it starts from
STARTUP = 6  # trials before a model-based sampler models
DRAWN, WEIGHED = 80, 130  # candidates that `growth` weighs: drawn from the space, the rest good ones changed a little
TRIED = 50  # of them, the best first, until one is within the study's limits
KEPT = 0.5  # of a good one's values
PATIENCE, LITTLE = 10, 1e-3  # so many short trainings that add so little of the budgets' worth: time for full ones


@dataclass(frozen=True)
class Refused:
    """A drawn combination that its family refuses, and why."""

    family: str
    params: dict[str, Value]
    reason: str


class RefusedError(ValueError):
    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


@dataclass
class Told:
    """What is known of one training: its latest curve, what is learned of it, and the setting that it is for."""

    last: Curve
    losses: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # by epoch, within each of growth.shares
    chosen: tuple[float, ...] = ()
    ended: bool = False  # trained to its end, not stopped or under way
    full: bool = False  # of full length

    @property
    def epoch(self) -> int:
        return max(self.losses)


def drawn(trial: Any, spaces: Spaces, epochs: Epochs) -> Candidate:
    """The candidate that an Optuna trial, or what takes its place, draws. Raises RefusedError."""
    names = sorted(spaces)
    name = trial.suggest_categorical("family", names) if len(names) > 1 else names[0]
    values = suggested(trial, spaces[name], name)
    try:
        return Candidate.of(family(name), values, epochs(name))
    except ValueError as error:
        raise RefusedError(Refused(name, values, str(error))) from None


class Thinker:
    """The study in memory, on which samplers think. Not for several threads at once."""

    def __init__(
        self,
        spaces: Spaces,
        sampler: str,
        *,
        costs: int,
        seed: int,
        epochs: Epochs,
        trials: int,
        starts: bool = True,
        limit: Limit = lambda _: None,
        price: Price = lambda _: 1.0,
        size: Size | None = None,
        full: Epochs | None = None,
    ) -> None:
        self.spaces, self.sampler, self.costs, self.limit, self.price = spaces, sampler, costs, limit, price
        self.seed, self.epochs, self.trials = seed, epochs, trials
        self.scale = np.ones(1 + costs)  # the worst corner that counts, as losses
        self.size: Size = size or (lambda _: (1.0,) * costs)
        self.told: dict[int, Told] = {}
        self.full = full
        self._full: set[int] = set()  # trials of full length
        self._shares = growth.shares(costs)
        self._sizes: dict[int, tuple[float, ...]] = {}
        self.plain: list[Curve] = []  # of plain networks, which a candidate must beat too
        self.starts = starting_points(spaces) if starts else []
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            directions=["minimize"] * (1 + costs), sampler=optuna.samplers.RandomSampler(seed=0)
        )
        self._encoder = growth.Encoder(spaces)

    @property
    def asked(self) -> int:
        return len(self.study.get_trials(deepcopy=False))

    def ask(self) -> tuple[int, Candidate | Refused]:
        """The next trial's number and candidate, or why what was drawn cannot be one."""
        number = self.asked
        epochs: Epochs = partial(self._epochs, full=self._exhausted())
        self.study.sampler = sampler(self.sampler, trial_seed(self.seed, number), self.trials)
        if number < len(self.starts):
            self.study.enqueue_trial(self.starts[number])
        elif self.sampler == "growth":
            self.study.enqueue_trial(self._chosen(np.random.default_rng((self.seed, number)), epochs))
        trial = self.study.ask()
        assert trial.number == number
        try:
            candidate = drawn(trial, self.spaces, epochs)
        except RefusedError as error:
            return number, error.refused
        if reason := self.limit(candidate):
            return number, Refused(candidate.family.name, dict(candidate.params), reason)
        if self._is_full(candidate):
            self._full.add(number)
        return number, candidate

    def frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def add(self, trial: optuna.trial.FrozenTrial, *, full: bool = False) -> None:
        """A trial that was asked in an earlier process; what became of it is told like that of any other."""
        if full and self.full is not None:
            self._full.add(self.asked)
        self.study.add_trial(
            optuna.trial.create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)
        )

    def look(self, number: int, epoch: int, curve: Curve, chosen: Sequence[float], *, ended: bool = False) -> None:
        """A training's operating points after an epoch: at its end, or on the way."""
        told = self.told.setdefault(number, Told(curve, full=number in self._full))
        relative = curve / np.array([1.0, *self._size(number)])
        told.losses[epoch] = np.array([min(1.0, float(loss_within([relative], one)[0])) for one in self._shares])
        told.last, told.chosen, told.ended = curve, tuple(chosen), ended

    def _size(self, number: int) -> tuple[float, ...]:
        if number not in self._sizes:
            again = optuna.trial.FixedTrial(self.frozen(number).params)
            self._sizes[number] = tuple(self.size(drawn(again, self.spaces, self.epochs)))
        return self._sizes[number]

    def finish(self, number: int) -> None:
        """The training is over or was stopped: it counts with what was seen of it."""
        self.study.tell(number, self.told[number].chosen, skip_if_finished=True)

    def fail(self, number: int) -> None:
        """The training ended without a result; what was seen of it on the way is on nobody's front."""
        self.told.pop(number, None)
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def running(self) -> list[int]:
        return [t.number for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def _epochs(self, name: str, *, full: bool) -> int:
        return self.full(name) if full and self.full else self.epochs(name)

    def _is_full(self, candidate: Candidate) -> bool:
        """Whether a training is longer than the family's others."""
        return candidate.recipe.epochs > self.epochs(candidate.family.name)

    def _exhausted(self) -> bool:
        """Whether it is time for trainings of full length: the last short ones have added next to nothing."""
        short = [number for number, told in sorted(self.told.items()) if not told.full]
        if self.full is None or len(short) < STARTUP + PATIENCE:
            return False
        others = [number for number in self.told if number not in short[-PATIENCE:]]
        worst = min(1.0, 2 * float(self.scale[0]))  # beyond the region, for until it is reached nothing is inside
        now, without = (growth.area(self._front(numbers), self._grid(), worst) for numbers in (list(self.told), others))
        return now - without < LITTLE

    def _grid(self) -> NDArray[np.float64]:
        return growth.budgets(self.costs) * self.scale[1:]

    def _front(self, numbers: Sequence[int]) -> NDArray[np.float64]:
        """The least loss within each budget, of these trainings and of plain networks."""
        front = own_front(np.concatenate([*(self.told[n].last for n in numbers), *self.plain]))
        return np.array([loss_within([front], one)[0] for one in self._grid()])

    def _chosen(self, draw: np.random.Generator, epochs: Epochs) -> dict[str, Value]:
        """Parameters of the candidate from which the front's growth is expected to be largest, within the limits.

        Before there is anything to learn from, any candidate's.
        """
        seen, params = self._remembered(), []
        good: list[int] = []
        if learned := len(seen) >= STARTUP:
            grid = self._grid()
            params, sizes_TK = [self.frozen(n).params for n in seen], np.array([self._size(n) for n in seen])
            losses_TS = learned_losses([self.told[n] for n in seen])
            at = growth.at_budgets(grid, sizes_TK)
            losses_TB = np.where(at < 0, 1.0, np.take_along_axis(losses_TS, np.maximum(at, 0), 1))
            good = list(np.unique(losses_TB.argmin(0)))
        kept = [params[good[i % len(good)]] if good and i >= DRAWN else {} for i in range(WEIGHED)]
        made = [self._made(draw, epochs, one) for one in kept]
        found = [(one, candidate) for one, candidate in made if candidate is not None]
        if learned and found:
            sizes_CK = np.array([self.size(candidate) for _, candidate in found])
            old = self._rows(params, sizes_TK, [self.told[n].full for n in seen])
            new = self._rows([one for one, _ in found], sizes_CK, [self._is_full(one) for _, one in found])
            curves = growth.predicted(old, losses_TS, new, int(draw.integers(2**31)))
            worth = growth.worth(*curves, sizes_CK, grid, self._front(seen), float(self.scale[0]))
            worth /= [self.price(candidate) for _, candidate in found]
            found = [found[i] for i in np.argsort(-worth, kind="stable")]
        known = [(trial.params, trial.number in self._full) for trial in self.study.get_trials(deepcopy=False)]
        new_ones = (pair for pair in found[:TRIED] if (pair[0], self._is_full(pair[1])) not in known)
        return next((one for one, candidate in new_ones if not self.limit(candidate)), {})

    def _rows(
        self, params: Sequence[Mapping[str, Any]], sizes_TK: NDArray[np.float64], full: Sequence[bool]
    ) -> NDArray[np.float64]:
        """What the forest knows of each: its parameters, its size and its length."""
        return self._encoder.rows(params, np.column_stack([np.log(sizes_TK), full]))

    def _remembered(self) -> list[int]:
        """Trainings to learn from: all of them, or those nearest to the front and the latest."""
        seen = sorted(self.told)
        if len(seen) <= growth.REMEMBERED:
            return seen
        layer = layers({n: self.told[n].last for n in seen})
        near = sorted(seen, key=lambda n: layer[n])[: growth.REMEMBERED // 2]
        return sorted({*near, *seen[-growth.REMEMBERED // 2 :]})

    def _made(
        self, draw: np.random.Generator, epochs: Epochs, kept: Mapping[str, Value]
    ) -> tuple[dict[str, Value], Candidate | None]:
        """What is drawn, and its candidate; none where the family refuses the combination, then or once it is built."""
        one = growth.Draw(draw, kept, KEPT)
        try:
            candidate = drawn(one, self.spaces, epochs)
            self.size(candidate)
        except ValueError:
            return one.params, None
        return one.params, candidate


def learned_losses(told: Sequence[Told]) -> NDArray[np.float64]:
    """(T, S) accuracy losses; of trainings that were stopped, as if they had gone on like the others."""
    found = np.stack([one.losses[one.epoch] for one in told])
    ended = [one for one in told if one.ended]
    for epoch, full in {(one.epoch, one.full) for one in told if not one.ended}:
        if both := [one for one in ended if epoch in one.losses and one.full == full]:
            gains = [one.losses[one.epoch] / np.maximum(one.losses[epoch], 1e-6) for one in both]
            at = np.array([(one.epoch, one.full, one.ended) == (epoch, full, False) for one in told])
            found[at] *= np.minimum(1.0, np.median(gains, 0))
    return found


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
        if d.name in own.size_dimensions and d.kind == "choice" and d.searched:
            known = [value for value in order[d.name] if value in d.choices]
            found[d.name] = min(d.choices) if growth.ordered(d) else [*known, *d.choices][0]
    return found


def sampler(name: str, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A sampler by the name that study files use, seeded."""
    with experimental():
        if name == "tpe":
            return optuna.samplers.TPESampler(
                multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
            )
        if name == "nsgaii":
            # a population of 50 (Optuna's default) is random search for most of a study of this size
            return optuna.samplers.NSGAIISampler(population_size=max(4, min(20, trials // 4)), seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
    return optuna.samplers.RandomSampler(seed=seed)


@contextmanager
def experimental() -> Iterator[None]:
    """Quiet about what Optuna marks experimental and we chose knowingly: group TPE, GP, metric names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def trial_seed(study_seed: int, number: int) -> int:
    """A seed for one trial: far from its neighbours', below 2^31."""
    mixed = (study_seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 29)) % (2**31 - 1)
