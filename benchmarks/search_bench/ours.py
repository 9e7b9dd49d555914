"""dynafront's search in a replayed world: the product's own scheduler, with a table of trainings as its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

from benchmarks.search_bench.table import Training
from benchmarks.search_bench.world import SECONDS, SpentError, World
from search.front.live import LiveFront
from search.objectives import Reference
from search.schedule.asking import Asking
from search.schedule.baseline_pool import BaselinePool
from search.schedule.decisions import Resume, Start, Trial
from search.schedule.duplicates import Duplicates, NoDuplicates
from search.schedule.early_stopping import EarlyStopping
from search.schedule.history import History
from search.schedule.lineup import Lineup
from search.schedule.sampler import Sampler, Setting, starting_points
from search.schedule.samplers import SAMPLERS
from search.schedule.scheduler import Scheduler
from search.schedule.sizes import size_key
from search.schedule.training_length import TrainingLength
from search.schedule.warm_start import USES
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, PointRecord

Method = Callable[[World], None]
CHANCE = 0.1  # accuracy of ten classes
ENDLESS = 10**9  # trials: the clock ends a replay


@dataclass(frozen=True)
class Ours:
    """The product's search, or a part of it."""

    sampler: Callable[[Setting], Sampler] = SAMPLERS["growth"]
    curve: bool = True  # all operating points count; else the one that the network was trained for
    warm: bool = True
    stopping: bool = True
    dedup: bool = True
    starts: bool = True
    full: str = "scratch"  # what trainings of full length start from, once the short ones add nothing; "": none
    plain: bool = True  # the baselines that trainings start from count
    ahead: bool = True  # the next candidate is thought of while one trains, and does not know how that one ends
    measuring: bool = False  # measuring all operating points takes the time that it took, in epochs
    static_nets: bool = True  # of frozen trunks, trained before anything else
    slots: int = 1  # trainings at once
    together: int = 1  # suggestions that one look at what is known answers

    def __call__(self, world: World) -> None:
        _Replay(self, world).run()


class _Replay:
    """Does what the scheduler decides, in the world of a table."""

    def __init__(self, how: Ours, world: World) -> None:
        self.how, self.world = how, world
        table, long = world.table, world.table.epochs
        warm = how.warm and bool(table.of("warm"))
        self.baselines = _Baselines(how, world, warm)
        short = table.spec.budget.short if warm else long
        setting = Setting(
            spaces=table.spaces,
            costs=1,
            seed=world.seed,
            trials=1000,
            size=self.baselines.size,
            epoch_cost=self.baselines.epoch_cost,
            trained=lambda: self.baselines.trained,
            short=lambda _: short,
            together=how.together,
        )
        asking = Asking(
            spaces=table.spaces,
            sampler=how.sampler(setting),
            length=TrainingLength(
                setting.short, (lambda _: long) if how.full and warm else None, 1
            ),
            limit=setting.limit,
            history=History.empty(1),
            starts=starting_points(table.spaces) if how.starts else [],
            ahead=setting.ahead,
        )
        duplicates = Duplicates() if how.dedup else NoDuplicates()
        self.scheduler = Scheduler(
            seed=world.seed,
            trials=ENDLESS,
            asking=asking,
            stopping=EarlyStopping() if how.stopping else None,
            lineup=Lineup(world.seed, self.baselines, duplicates),
            front=LiveFront(table.spec, Reference(accuracy=CHANCE, macs=table.reference_macs)),
        )
        # by when something happens in them, and in which order they were started
        self._under_way: list[tuple[float, int, Iterator[float]]] = []
        self._order = count()
        if table.frozen and how.static_nets:
            self.scheduler.add_baselines(self.baselines.static_nets())

    def run(self) -> None:
        try:
            with suppress(SpentError):
                while self._step():
                    pass
        finally:
            self.scheduler.close()

    def _step(self) -> bool:
        """Start what has room, then let the clock run until something happens; False where nothing is under way."""
        while len(self._under_way) < self.how.slots and (todo := self.scheduler.next()) is not None:
            self._do(todo)
        if self.how.ahead:
            self.scheduler.ask_ahead()
            self.scheduler.settle()  # sizes depend here on which candidate of a size was met first
        if not self._under_way:
            return False
        when, _, training = heappop(self._under_way)
        self.world.wait(when)
        self._go_on(training)
        return True

    def _go_on(self, training: Iterator[float]) -> None:
        """What follows in a training that is under way, until it takes time again."""
        if (takes := next(training, None)) is not None:
            heappush(self._under_way, (self.world.clock + takes, next(self._order), training))

    def _do(self, decision: Any) -> None:
        match decision:
            case Start(Trial(kind=Kind.BASELINE) as trial):
                self._go_on(self._baseline(trial))
            case Start(trial, rungs):
                self._go_on(self._training(trial, 0, rungs))
            case Resume(trial, epoch, rungs):
                self._go_on(self._training(trial, epoch, rungs))

    def _baseline(self, trial: Trial) -> Iterator[float]:
        """Train it: gives what the clock is to show meanwhile, and goes on after that."""
        origin = self.baselines.origins[trial.candidate.key]
        plain = self.world.plain(origin)
        takes = self.world.cost_once(origin)
        yield takes or 0.0
        points = self.world.points(plain, self.world.table.epochs)
        self.scheduler.ended(trial, points if self.how.plain else [])
        if self.how.plain and takes is not None:
            self.world.count(self.world.curve(plain, self.world.table.epochs))

    def _training(self, trial: Trial, at: int, rungs: tuple[int, ...]) -> Iterator[float]:
        """Train it from rung to rung: gives what the clock is to show for each, and goes on after that."""
        world, training = self.world, self.baselines.trainings[trial.number]
        last = training.epochs
        for epoch in (*rungs, last):
            measuring = self.how.measuring or world.unit == SECONDS
            yield world.cost(training, at, epoch, measuring=measuring)
            at, points = epoch, self._points(training, epoch)
            if epoch == last:
                self.scheduler.ended(trial, points)
            elif not self.scheduler.report(trial, epoch, points, training.outlook[epoch - 1]):
                self.scheduler.ended(trial, points, stopped_at=epoch)
                break
        chosen = [world.point(training, at)]
        world.count(
            world.curve(training, at) if self.how.curve else world.reference_point.curve(chosen)
        )

    def _points(self, training: Training, epoch: int) -> list[PointRecord]:
        points = self.world.points(training, epoch)
        return points if self.how.curve else [one for one in points if one.chosen]


class _Baselines(BaselinePool):
    """The baselines of a table: a trial starts from that of the training which stands for it."""

    def __init__(self, how: Ours, world: World, warm: bool) -> None:
        super().__init__(world.table.spec, world.table.spaces)
        self.how, self.world, self.warm = how, world, warm
        self.trainings: dict[int, Training] = {}  # by trial
        self.origins: dict[str, str] = {}  # names of baselines in the table, by key
        self._candidates: dict[str, Candidate] = {}  # and back
        self._alike: dict[Any, Training] = {}  # a training of each size

    def baseline_for(self, trial: Trial) -> Candidate | None:
        candidate, table = trial.candidate, self.world.table
        full = candidate.recipe.epochs == table.epochs
        start = (self.how.full if self.warm else "scratch") if full else "warm"
        training = self.world.find(candidate.family.name, candidate.params, start)
        self.trainings[trial.number] = training
        return self._baseline(training.origin) if training.origin else None

    def static_nets(self) -> list[Candidate]:
        """All static networks of the table."""
        return [self._baseline(f"plain-{number:04d}-0") for number in self.world.table.of("plain")]

    def epoch_cost(self, candidate: Candidate, trained: AbstractSet[str]) -> float:
        epochs, origin = candidate.recipe.epochs, self._like(candidate).origin
        new = (
            epochs < self.world.table.epochs
            and origin
            and self._baseline(origin).key not in trained
        )
        return epochs + (self.world.table.epochs / USES if new else 0)

    def size(self, candidate: Candidate) -> tuple[float]:
        """What a candidate's baseline costs, in shares of the reference point."""
        return (self._like(candidate).plain_macs / self.world.reference_point.costs[0],)

    def _baseline(self, origin: str) -> Candidate:
        if origin not in self._candidates:
            one = self.world.plain(origin)
            candidate = self._candidates[origin] = Candidate.of(
                family(one.family), one.params, one.epochs
            )
            self.origins[candidate.key] = origin
        return self._candidates[origin]

    def _like(self, candidate: Candidate) -> Training:
        """A training of the candidate's size."""
        key = size_key(candidate)
        if key not in self._alike:
            number, _ = self.world.table.nearest(candidate.family.name, candidate.params)
            start = "warm" if self.world.table.of("warm") else "scratch"
            self._alike[key] = self.world.table.trainings[start, number, 0]
        return self._alike[key]
