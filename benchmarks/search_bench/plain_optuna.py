"""Optuna's samplers in a replayed world, as their users call them: one point a training, every training to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from benchmarks.search_bench.world import SECONDS, SpentError, World
from search.schedule.sampler import InfeasibleError, draw_candidate, quiet_experimental_warnings


@dataclass(frozen=True)
class Optuna:
    """One of Optuna's samplers, made from a seed."""

    make: Callable[[int], optuna.samplers.BaseSampler]
    # count all operating points of what it trained, which its users do not have
    curve: bool = False

    def __call__(self, world: World) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with quiet_experimental_warnings(), suppress(SpentError):
            study = optuna.create_study(
                directions=["maximize", "minimize"], sampler=self.make(world.seed)
            )
            while True:
                self._trial(study, world)

    def _trial(self, study: optuna.Study, world: World) -> None:
        trial, epochs = study.ask(), world.table.epochs
        try:
            candidate = draw_candidate(trial, world.table.spaces, lambda _: epochs)
        except InfeasibleError:
            study.tell(trial, state=TrialState.FAIL)
            return
        training = world.find(candidate.family.name, candidate.params)
        world.train(training, 0, epochs, measuring=self.curve and world.unit == SECONDS)
        point = world.point(training, epochs)
        study.tell(trial, point)
        world.count(
            world.curve(training, epochs) if self.curve else world.reference_point.curve([point])
        )
