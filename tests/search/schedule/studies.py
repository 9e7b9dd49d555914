"""Studies whose candidates are asked for, and reported, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from search.front.curves import Curve, ReferencePoint
from search.objectives import MACS
from search.schedule.asking import Asking
from search.schedule.history import History, Training
from search.schedule.sampler import (
    Epochs,
    InfeasibleError,
    Limit,
    Setting,
    Spaces,
    starting_points,
)
from search.schedule.samplers import SAMPLERS
from search.schedule.sizes import baseline_size
from search.schedule.training_length import TrainingLength
from search.spec import narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from spaces.contract.task import Task
from storage.records import State

TASK = Task(channels=1, height=8, width=8, classes=10)
SIZES = "space: {gated_resnet: {backbone: [resnet8, resnet14, resnet20], width: [0.25, 0.5, 0.75, 1.0]}}\n"
SPACES = narrowed_spaces(
    parse_study(f"study: s\ndata: digits\nfamilies: [gated_resnet]\n{SIZES}", "s")
)
BOTH = narrowed_spaces(
    parse_study(f"study: s\ndata: digits\nfamilies: [multi_exit, gated_resnet]\n{SIZES}", "s")
)
SIDES = narrowed_spaces(
    parse_study(
        f"study: s\ndata: digits\nfamilies: [gated_resnet]\nimage_size: [8, 12, 24]\n{SIZES}", "s"
    )
)
BOTH_AT_SIDES = narrowed_spaces(
    parse_study(
        f"study: s\ndata: digits\nfamilies: [multi_exit, gated_resnet]\nimage_size: [8, 12, 24]\n{SIZES}",
        "s",
    )
)
# of the MACs of about the largest network in SPACES
SHARE = baseline_size(TASK, ReferencePoint(0.1, (2.6e6,)), (MACS,))
Size = Callable[[Candidate], Sequence[float]]


class Study:
    """Candidates are asked for and reported by hand, as a scheduler does."""

    def __init__(
        self,
        sampler: str = "growth",
        *,
        spaces: Spaces = SPACES,
        costs: int = 1,
        short: Epochs = lambda _: 4,
        full: Epochs | None = None,
        seed: int = 3,
        trials: int = 40,
        starts: bool = False,
        limit: Limit = lambda _: None,
        size: Size | None = None,
        together: int = 1,
    ) -> None:
        points = starting_points(spaces) if starts else []
        setting = Setting(
            given=len(points),
            spaces=spaces,
            costs=costs,
            seed=seed,
            trials=trials,
            size=size or (lambda candidate: (cost_of(candidate),) * costs),
            epoch_cost=lambda *_: 1.0,
            limit=limit,
            short=short,
            together=together,
        )
        self.sampler = SAMPLERS[sampler](setting)
        self.history = History.empty(costs)
        length = TrainingLength(short, full, costs)
        self.observed: list[tuple[int, Training]] = []
        self.asking = Asking(spaces, self.sampler, length, limit, self.history, points)

    def ask(self) -> tuple[int, Candidate | InfeasibleError]:
        return self.asking.suggestion()

    def look(
        self, number: int, epoch: int, curve: Curve, chosen: Sequence[float], *, ended: bool = False
    ) -> None:
        state = State.COMPLETE if ended else State.RUNNING
        known = self.history.trials[number]
        seen = replace(known, epoch=epoch, curve=curve, chosen=tuple(chosen), state=state)
        self.observe(number, seen)

    def stop(self, number: int) -> None:
        """After what was seen of it last."""
        self.observe(number, replace(self.history.trials[number], state=State.STOPPED))

    def fail(self, number: int) -> None:
        self.observe(number, self.history.failed(number))

    def observe(self, number: int, training: Training) -> None:
        self.observed.append((number, training))
        self.asking.observe(number, training)

    def again(self, other: Study) -> Study:
        """Observe all that another study knows, as after an interruption: what was asked, then rungs, then ends."""
        for number, training in other.history.trials.items():
            self.observe(number, Training(training.params, full=training.full))
        for number, training in sorted(other.observed, key=lambda o: o[1].state != State.RUNNING):
            if other.history.trials[number].state != State.FAILED or training.state == State.FAILED:
                self.observe(number, training)
        return self


def cost_of(candidate: Candidate) -> float:
    return SHARE(candidate)[0]


def measured(candidate: Candidate, costs: int = 1) -> Curve:
    """A made-up training: more expensive networks are more accurate, and each can be run for half of its cost too."""
    cost = cost_of(candidate)
    loss = 0.6 - 0.4 * min(1.0, cost) ** 0.3 + 0.02 * abs(np.log10(candidate.recipe.lr) + 1)
    return np.array([[loss, *[cost] * costs], [loss + 0.1, *[cost / 2] * costs]])


def run(one: Study, count: int, costs: int = 1) -> list[Candidate | InfeasibleError]:
    """Ask and tell so many trials."""
    found = []
    for _ in range(count):
        number, candidate = one.ask()
        found.append(candidate)
        if isinstance(candidate, InfeasibleError):
            one.fail(number)
            continue
        curve = measured(candidate, costs)
        one.look(number, 4, curve, curve[0], ended=True)
    return found


def candidates(found: Sequence[Candidate | InfeasibleError]) -> list[Candidate]:
    assert all(isinstance(one, Candidate) for one in found)
    return [one for one in found if isinstance(one, Candidate)]
