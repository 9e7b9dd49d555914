"""Candidates ranked by how much the front is expected to grow, from a look at what is known.

A look is plain data, and ranking it changes nothing: a thread may do it while trainings report, or another process.

Shapes: T trainings, S shares, C candidates, B budgets, K costs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search.schedule import growth
from search.schedule.history import Params
from search.schedule.sampler import Epochs, Setting, draw_candidate
from spaces.contract.family import Candidate
from spaces.contract.space import Value

logger = logging.getLogger(f"dynafront.{__name__}")

Floats = NDArray[np.float64]
DRAWN, CONSIDERED = (
    80,
    130,
)  # candidates: drawn from the space, and with those that are good ones changed a little
PICKED = 16  # of them are suggested at most
TRIED = 50  # of them, the best first, until one is within the study's limits
KEPT = 0.5  # of a good one's values


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known when candidates are asked for: trainings to learn from, and what they are compared with."""

    number: int  # of the trial that asks
    epochs: Mapping[str, int]  # of the next training, by family
    baselines: AbstractSet[str]  # that are trained, by key
    params: Mapping[int, Params]  # of T trainings, by trial
    full_T: Sequence[bool]  # whether each is of full length
    sizes_TK: Floats  # what their baselines cost
    losses_TS: Floats  # what was learned of each
    good: Sequence[int]  # those that are best within some budget
    grid_BK: Floats  # budgets
    front_B: Floats  # the least loss within each so far
    worst: float  # the worst loss that counts

    @property
    def learned(self) -> bool:
        """Whether there was enough to learn from."""
        return len(self.losses_TS) > 0


class Ranks(Protocol):
    """Ranking, here or in another process."""

    def of(self, look: Look) -> list[Params]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Draft:
    """A candidate that may be asked for."""

    params: dict[str, Value]
    candidate: Candidate
    size: tuple[float, ...]  # what its baseline costs, in shares of the reference point


class Ranking:
    """Draws candidates and ranks them by expected improvement, which a forest over all trainings' curves gives."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._encoder = growth.Encoder(setting.spaces)
        self._known: dict[int, Floats] = {}  # parameters as numbers, by trial
        # so many more drafts are needed as more suggestions are made of them
        self._times = ceil(setting.together / PICKED)

    def of(self, look: Look) -> list[Params]:
        """Those with the largest expected growth of the front per epoch, the best first.

        Before there is anything to learn from, any candidates.
        """
        draw = np.random.default_rng((self.setting.seed, look.number))
        drafts = self._drafts(draw, look)
        if look.learned and drafts:
            improvement = self._expected_improvement(draw, drafts, look)
            drafts = [drafts[i] for i in np.argsort(-improvement, kind="stable")]
        return [one.params for one in drafts[: TRIED * self._times]]

    def close(self) -> None:
        """It holds nothing."""

    def _drafts(self, draw: np.random.Generator, look: Look) -> list[Draft]:
        """Drawn from the space, then good ones with some of their values drawn again; infeasible ones left out."""
        good = [look.params[number] for number in look.good]
        epochs: Epochs = look.epochs.__getitem__
        found = []
        for i in range(CONSIDERED * self._times):
            kept = good[i % len(good)] if good and i >= DRAWN * self._times else {}
            one = growth.Draw(draw, kept, KEPT)
            try:
                candidate = draw_candidate(one, self.setting.spaces, epochs)
                size = self.setting.size(candidate)
            except (
                ValueError
            ) as error:  # the family does not take the combination, then or once it is built
                logger.debug("a draft is left out: %s", error)
                continue
            found.append(Draft(one.params, candidate, tuple(size)))
        return found

    def _expected_improvement(
        self, draw: np.random.Generator, drafts: Sequence[Draft], look: Look
    ) -> Floats:
        """(C,) expected improvement of the front by each candidate, per epoch that it takes."""
        sizes_CK = np.array([one.size for one in drafts])
        known = _rows(self._known_rows(look), look.sizes_TK, look.full_T)
        new = _rows(
            self._encoder.rows([one.params for one in drafts]),
            sizes_CK,
            [self.setting.is_full(one.candidate) for one in drafts],
        )
        mean_CS, std_CS = growth.predict_losses(
            known, look.losses_TS, new, int(draw.integers(2**31))
        )
        improvement = growth.expected_improvement(
            mean_CS, std_CS, sizes_CK, look.grid_BK, look.front_B, look.worst
        )
        cost = self.setting.epoch_cost
        return improvement / [cost(one.candidate, look.baselines) for one in drafts]

    def _known_rows(self, look: Look) -> Floats:
        """The trainings' parameters as numbers; a trial's never change."""
        new = [number for number in look.params if number not in self._known]
        rows = self._encoder.rows([look.params[number] for number in new])
        self._known.update(zip(new, rows, strict=True))
        return np.stack([self._known[number] for number in look.params])


def _rows(params_TF: Floats, sizes_TK: Floats, full: Sequence[bool]) -> Floats:
    """What the forest knows of each: its parameters, its size and its length."""
    return np.column_stack([params_TF, np.log(sizes_TK), full])
