"""dynafront's search in a replayed world: the sampler, signal and rungs of the product, driven as its driver does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.search_bench.table import Training
from benchmarks.search_bench.world import SpentError, World
from search.curves import Curve
from search.plain_nets import USES, WARM_SHARE
from search.rungs import Rungs, rung_epochs
from search.sampling import Refused, Thinker
from search.sizes import size_key
from spaces.family import Candidate

Method = Callable[[World], None]


@dataclass(frozen=True)
class Ours:
    """The product's search, or a part of it."""

    sampler: str = "growth"
    curve: bool = True  # all operating points count; else the one that the network was trained for
    warm: bool = True
    stopping: bool = True
    dedup: bool = True
    starts: bool = True
    full: str = "scratch"  # what trainings of full length start from, once the short ones add nothing; "": none
    plain: bool = True  # the plain networks that trainings start from count
    ahead: bool = True  # the next candidate is thought of while one trains, and does not know how that one ends
    measuring: bool = False  # measuring all operating points takes the time that it took, in epochs
    thinker: type[Thinker] = Thinker

    def __call__(self, world: World) -> None:
        _Replay(self, world).run()


class _Replay:
    """The driver's loop, with a world in place of engine and tables."""

    def __init__(self, how: Ours, world: World) -> None:
        self.how, self.world = how, world
        self.epochs = max(1, round(world.table.epochs * WARM_SHARE)) if how.warm else world.table.epochs
        self.rungs = Rungs()
        self.thinker = how.thinker(
            world.table.spaces,
            how.sampler,
            costs=1,
            seed=world.seed,
            epochs=lambda _: self.epochs,
            full=(lambda _: world.table.epochs) if how.full and how.warm else None,
            trials=1000,
            starts=how.starts,
            price=self._price,
            size=self._size,
        )
        self.sizes: dict[Any, Training] = {}
        self.known: dict[str, int] = {}
        self.running: dict[int, Training] = {}
        self.ahead: tuple[int, Candidate | Refused] | None = None

    def run(self) -> None:
        with suppress(SpentError):
            while True:
                if (resumed := self.rungs.promising()) is not None:
                    self._train(resumed, self.rungs.resume(resumed))
                    continue
                number, candidate = self.ahead or self.thinker.ask()
                self.ahead = None
                if isinstance(candidate, Refused):
                    self.thinker.fail(number)
                    continue
                if self.how.dedup and candidate.key in self.known:
                    twin = self.thinker.told[self.known[candidate.key]]
                    self.thinker.look(number, twin.epoch, twin.last, twin.chosen, ended=twin.ended)
                    self.thinker.finish(number)
                    continue
                self.known[candidate.key] = number
                long = candidate.recipe.epochs == self.world.table.epochs
                start = (self.how.full if self.how.warm else "scratch") if long else "warm"
                self.running[number] = self.world.find(candidate.family.name, candidate.params, start)
                self._train(number, 0)

    def _like(self, candidate: Candidate) -> Training:
        """A training of the candidate's size."""
        key = size_key(candidate)
        if key not in self.sizes:
            number, _ = self.world.table.nearest(candidate.family.name, candidate.params)
            self.sizes[key] = self.world.table.trainings["warm", number, 0]
        return self.sizes[key]

    def _price(self, candidate: Candidate) -> float:
        world, origin = self.world, self._like(candidate).origin
        epochs = candidate.recipe.epochs
        new = epochs < world.table.epochs and origin and not world.has(origin)
        return epochs + (world.table.epochs / USES if new else 0)

    def _size(self, candidate: Candidate) -> tuple[float]:
        return (self._like(candidate).plain_macs / self.world.box.costs[0],)

    def _train(self, number: int, at: int) -> None:
        world, training = self.world, self.running[number]
        if self.how.ahead and self.ahead is None:
            self.ahead = self.thinker.ask()
        if training.origin and (plain := world.spend_once(training.origin)) is not None and self.how.plain:
            self.thinker.plain.append(plain)
            self.rungs.rival(plain)
            world.count(plain)
        last, kind = training.epochs, f"{training.family} {training.start}"
        rungs = rung_epochs(last) if self.how.stopping else ()
        for epoch in [e for e in (*rungs, last) if e > at]:
            world.spend(epoch - at + (training.measuring[epoch] if self.how.measuring else 0.0))
            at = epoch
            curve, ended = self._curve(training, epoch), epoch == last
            chosen = world.box.curve([world.point(training, epoch)])[0]
            self.thinker.look(number, epoch, curve, chosen, ended=ended)
            if ended:
                self.rungs.end(number, kind, curve)
            elif not self.rungs.report(number, kind, epoch, curve, training.outlook[epoch - 1]):
                break
        self.thinker.finish(number)
        world.count(self._curve(training, at))

    def _curve(self, training: Training, epoch: int) -> Curve:
        world = self.world
        return world.curve(training, epoch) if self.how.curve else world.box.curve([world.point(training, epoch)])
