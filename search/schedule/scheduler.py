"""The scheduler: what to train next, whether a training goes on, and when a study is over.

It knows no database, no processes and no clock: it decides from what was reported, in its order. A driver does what it
says (search.run.driver), a benchmark replays stored trainings through it, and a study that goes on reports to it once
more what its tables know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from search.front.curves import Curve
from search.front.eligible import chosen_of, curve_of
from search.front.live import LiveFront
from search.objectives import outlook_of
from search.schedule.asking import Asking
from search.schedule.decisions import (
    Decision,
    Ended,
    Keep,
    Record,
    Reject,
    Repeat,
    Resume,
    Start,
    Trial,
)
from search.schedule.early_stopping import StoppingRule
from search.schedule.history import History, Params, Training
from search.schedule.lineup import Lineup
from search.schedule.sampler import InfeasibleError, trial_seed
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, OperatingPoint, PointRecord, State, TrialRecord


@dataclass
class Scheduler:
    """Decides for one study; the parts that it is made of decide one thing each."""

    seed: int
    trials: int  # in all
    asking: Asking
    stopping: StoppingRule | None
    lineup: Lineup
    front: LiveFront
    asked: int = 0
    _decided: deque[Decision] = field(default_factory=deque)
    # trials of the search that may be trained
    _known: dict[int, Trial] = field(default_factory=dict)
    _kept: int = -1  # the last trial whose suggestion was written down before it was asked

    def __post_init__(self) -> None:
        self.costs = self.front.spec.costs

    @property
    def history(self) -> History:
        return self.asking.history

    def next(self) -> Decision | None:
        """What to do while a slot is free; None when there is nothing to do now."""
        while not self._decided and not self.lineup.asked:
            if self.lineup.ready:
                return self.start(self.lineup.ready.popleft())
            if (resumed := self._resumed()) is not None:
                return resumed
            if not self._may_ask:
                return None
            self._ask()
        return self._decided.popleft() if self._decided else self.lineup.asked.popleft()

    def ask_ahead(self) -> None:
        """Compute the next suggestion while others train: it knows what was reported so far, whatever their speed."""
        if self._may_ask:
            self.asking.think_ahead()

    def settle(self) -> None:
        """Wait until no suggestion is being computed."""
        self.asking.sampler.settle()

    def report(
        self,
        trial: Trial,
        epoch: int,
        points: Sequence[OperatingPoint],
        outlook: float | None,
        decided: bool | None = None,
    ) -> bool:
        """Whether the trial goes on after a rung; `decided` is what was decided when this was reported before.

        `outlook`: compute at the end of the training over compute now, as far as its objective foresees it.
        """
        self._observe(trial.number, points, State.RUNNING, epoch)
        if self.stopping is None:
            return True
        curve, later = self._curve(points), outlook_of(self.costs, outlook)
        corner = self.history.corner
        return self.stopping.report(
            trial.number, _group(trial), epoch, curve, later, corner, decided
        )

    def ended(
        self, trial: Trial, points: Sequence[PointRecord], stopped_at: int | None = None
    ) -> Ended:
        """The training is over, or was stopped after an epoch."""
        if trial.kind == Kind.BASELINE:
            return self._baseline_ended(trial, points)
        state = State.COMPLETE if stopped_at is None else State.STOPPED
        self._observe(trial.number, points, state, stopped_at or trial.candidate.recipe.epochs)
        if stopped_at is None and self.stopping:
            self.stopping.ended(trial.number, _group(trial), self._curve(points))
        joined = self._extend_front(trial, points, stopped=stopped_at is not None)
        return Ended(
            joined,
            [
                self._repeat(number, trial.number)
                for number in self.lineup.duplicates.release(trial.number)
            ],
        )

    def failed(self, trial: Trial) -> Sequence[int]:
        """The training has no result; returns the trials that cannot be trained without it."""
        if trial.kind == Kind.BASELINE:
            lost = self.lineup.abandon(trial.candidate)
            for number in lost:
                self.asking.forget(number)
            return lost
        self.asking.forget(trial.number)
        if (other := self.lineup.duplicates.failed(trial.candidate, trial.number)) is not None:
            self.lineup.add(self._known[other])
        return []

    def restore(self, record: TrialRecord) -> Trial | None:
        """A trial of an earlier session, in the order of numbers; None when it failed or repeats another.

        What it reported and how it ended follows through the usual calls.
        """
        if record.kind == Kind.BASELINE:
            return self._restored_baseline(record)
        self.asking.restore(record)
        self.asked += 1
        if record.state == State.FAILED:
            self.asking.forget(record.number)
            return None
        trial = self._known[record.number] = _trial(record)
        if record.of_trial is not None:
            return None
        self.lineup.duplicates.first(trial.candidate, record.number)
        return trial

    def _restored_baseline(self, record: TrialRecord) -> Trial | None:
        if record.state == State.FAILED:
            self.lineup.baselines.asked += 1
            return None
        trial = _trial(record)
        self.lineup.baselines.add(trial.candidate)
        return trial

    def restore_repeat(self, number: int, points: Sequence[OperatingPoint], epoch: int) -> None:
        """In an earlier session this trial took the result that an equal one had after an epoch."""
        ended = epoch >= self._known[number].candidate.recipe.epochs
        self._observe(number, points, State.COMPLETE if ended else State.STOPPED, epoch)

    def skip(self, number: int, params: Params) -> None:
        """A trial that Optuna's database has and our tables do not: it is lost."""
        self.asking.observe(number, Training(params))
        self.asking.forget(number)
        self.asked += 1

    def restore_ahead(self, params: Sequence[Params]) -> None:
        """An earlier session found these for the next trials, once all that it asked are restored."""
        self.asking.ahead.extend(params)
        self._kept = self.asked + len(params) - 1

    def go_on(self, trials: Iterable[Trial]) -> None:
        """These were under way when an earlier session was interrupted."""
        for trial in trials:
            if trial.kind == Kind.BASELINE:
                self.lineup.add(trial)
            else:
                self._place(trial)

    def add_baselines(self, candidates: Iterable[Candidate]) -> None:
        """Train these too, unless they are known."""
        for candidate in candidates:
            if not self.lineup.baselines.is_known(candidate):
                self.lineup.add_baseline(candidate)

    def close(self) -> None:
        self.asking.sampler.close()

    @property
    def ready(self) -> bool:
        decided = self._decided or self.lineup.asked or self.lineup.ready
        return bool(decided) or self.asking.sampler.ready

    @property
    def finished(self) -> bool:
        return not (self._decided or self.lineup.asked or self.lineup.ready or self._may_ask)

    @property
    def baselines_left(self) -> int:
        return self.lineup.baselines.left

    @property
    def current_front(self) -> tuple[Sequence[PointRecord], float]:
        return self.front.shown, self.front.volume

    @property
    def _may_ask(self) -> bool:
        return self.asked < self.trials and not self.front.plateau

    def start(self, trial: Trial) -> Start:
        """How a trial is trained from here."""
        return Start(trial, self._rungs_left(trial))

    def _rungs_left(self, trial: Trial) -> tuple[int, ...]:
        if self.stopping is None or trial.kind == Kind.BASELINE:
            return ()
        return self.stopping.rungs(trial.number, trial.candidate.recipe.epochs)

    def _resumed(self) -> Resume | None:
        """A trial that was stopped and should not have been, as is known by now."""
        number = self.stopping.promising(self.history.corner) if self.stopping else None
        if self.stopping is None or number is None:
            return None
        trial, epoch = self._known[number], self.stopping.resume(number)
        self.history.update(number, replace(self.history.trials[number], state=State.RUNNING))
        self.front.withdraw(trial.name)
        return Resume(trial, epoch, tuple(rung for rung in self._rungs_left(trial) if rung > epoch))

    def _ask(self) -> None:
        number, candidate = self.asking.suggestion()
        self.asked += 1
        self._keep_ahead(number + 1)
        seed = trial_seed(self.seed, number)
        if isinstance(candidate, InfeasibleError):
            self.asking.forget(number)
            epochs = self.asking.length.short(candidate.family)
            self._decided.append(
                Reject(number, candidate.family, candidate.values, epochs, seed, str(candidate))
            )
            return
        trial = self._known[number] = Trial(Kind.SEARCH, number, candidate, seed)
        self._decided.append(Record(trial))
        self._place(trial)
        if self.lineup.next is trial:
            self._decided[-1] = Record(trial, starts=True)

    def _keep_ahead(self, first: int) -> None:
        """Let suggestions for trial `first` and those after it be written down, once."""
        if first > self._kept and (ahead := tuple(self.asking.ahead)):
            self._kept = first + len(ahead) - 1
            self._decided.append(Keep(first, ahead))

    def _place(self, trial: Trial) -> None:
        """Train it, or take the result of an equal trial, now or when that has ended."""
        first = self.lineup.duplicates.first(trial.candidate, trial.number)
        if first == trial.number:
            self.lineup.add(trial)
        elif self.history.trials[first].state == State.RUNNING:
            self.lineup.duplicates.wait(trial.number, first)
        else:
            self._decided.append(self._repeat(trial.number, first))

    def _baseline_ended(self, trial: Trial, points: Sequence[PointRecord]) -> Ended:
        """A baseline's points are there: dynamic networks have to beat them."""
        curve = self._curve(points)
        self.history.baselines.append(curve)
        if self.stopping:
            self.stopping.baseline(curve)
        self.lineup.release(trial.candidate)
        return Ended(self._extend_front(trial, points, stopped=False))

    def _repeat(self, number: int, first: int) -> Repeat:
        self.asking.repeat(number, first)
        return Repeat(number, first)

    def _observe(
        self, number: int, points: Sequence[OperatingPoint], state: State, epoch: int
    ) -> None:
        """Keep what a trial showed after an epoch, and let the sampler observe it."""
        one = chosen_of(points)
        values = (one.accuracy, *(cost.of(one) for cost in self.costs))
        chosen = tuple(map(float, self.front.point.curve([values])[0]))
        known = self.history.trials[number]
        seen = replace(known, state=state, epoch=epoch, curve=self._curve(points), chosen=chosen)
        self.asking.observe(number, seen)

    def _extend_front(
        self, trial: Trial, points: Sequence[PointRecord], *, stopped: bool
    ) -> list[PointRecord]:
        joined = self.front.extend(trial.name, points, stopped=stopped)
        self.history.corner = self.front.corner
        return joined

    def _curve(self, points: Sequence[OperatingPoint]) -> Curve:
        return curve_of(points, self.front.point, self.costs)


def _trial(record: TrialRecord) -> Trial:
    candidate = Candidate.of(family(record.family), record.params, record.epochs)
    return Trial(record.kind, record.number, candidate, record.seed)


def _group(trial: Trial) -> str:
    """Trainings that learn alike: of a family and of a length."""
    return f"{trial.candidate.family.name}, {trial.candidate.recipe.epochs} epochs"
