"""dynafront's search in a replayed world: the sampler, signal and rungs of the product, driven as its driver does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.search_bench.table import Training
from benchmarks.search_bench.world import SpentError, World
from search.curves import Curve
from search.plain_nets import USES, WARM_SHARE
from search.rungs import LUCK, Rungs, rung_epochs
from search.sampling import Refused, Thinker
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
    luck: float = LUCK
    thinker: type[Thinker] = Thinker

    def __call__(self, world: World) -> None:
        _Replay(self, world).run()


class _Replay:
    """The driver's loop, with a world in place of engine and tables."""

    def __init__(self, how: Ours, world: World) -> None:
        self.how, self.world = how, world
        self.epochs = max(1, round(world.table.epochs * WARM_SHARE)) if how.warm else world.table.epochs
        self.rungs = Rungs(how.luck)
        self.thinker = how.thinker(
            world.table.spaces,
            how.sampler,
            costs=1,
            seed=world.seed,
            epochs=lambda _: self.epochs,
            trials=1000,
            starts=how.starts,
            price=self._price,
        )
        self.known: dict[str, int] = {}
        self.running: dict[int, Training] = {}

    def run(self) -> None:
        with suppress(SpentError):
            while True:
                if (resumed := self.rungs.promising()) is not None:
                    self._train(resumed, self.rungs.resume(resumed))
                    continue
                number, candidate = self.thinker.ask()
                if isinstance(candidate, Refused):
                    self.thinker.fail(number)
                    continue
                if self.how.dedup and candidate.key in self.known:
                    twin = self.thinker.told[self.known[candidate.key]]
                    self.thinker.look(number, twin.epoch, twin.last, twin.chosen, ended=twin.ended)
                    self.thinker.finish(number)
                    continue
                self.known[candidate.key] = number
                start = "warm" if self.how.warm else "scratch"
                self.running[number] = self.world.find(candidate.family.name, candidate.params, start)
                self._train(number, 0)

    def _price(self, candidate: Candidate) -> float:
        world = self.world
        origin = world.find(candidate.family.name, candidate.params, "warm").origin if self.how.warm else None
        return self.epochs + (world.table.epochs / USES if origin and not world.has(origin) else 0)

    def _train(self, number: int, at: int) -> None:
        world, training = self.world, self.running[number]
        if training.origin:
            world.spend_once(training.origin)
        rungs = rung_epochs(self.epochs) if self.how.stopping else ()
        for epoch in [e for e in (*rungs, self.epochs) if e > at]:
            world.spend(epoch - at)
            at = epoch
            curve, ended = self._curve(training, epoch), epoch == self.epochs
            chosen = world.box.curve([world.point(training, epoch)])[0]
            self.thinker.look(number, epoch, curve, chosen, ended=ended)
            if ended:
                self.rungs.end(number, training.family, curve)
            elif not self.rungs.report(number, training.family, epoch, curve, training.outlook[epoch - 1]):
                break
        self.thinker.finish(number)
        world.count(self._curve(training, at))

    def _curve(self, training: Training, epoch: int) -> Curve:
        world = self.world
        return world.curve(training, epoch) if self.how.curve else world.box.curve([world.point(training, epoch)])
