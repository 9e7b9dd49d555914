"""What happens in a study, written down: our tables first, then Optuna's mirror of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from search.front.eligible import chosen_of, repeatable
from search.front.pareto import front
from search.objectives import Cost
from search.report.front_points import thinned
from search.run.job import Failure, Outcome, Rung
from search.run.mirror import Mirror
from search.schedule.decisions import Reject, Repeat, Trial
from search.schedule.history import Params
from storage.attempts import Ends
from storage.errors import TakenOverError
from storage.finished import Finished
from storage.records import EpochRecord, Kind, OperatingPoint, PointRecord, State, TrialRecord
from storage.rows import point_row
from storage.store import Store
from trainers.fit import EpochResult

MOST_POINTS = 30  # of a trial, in Optuna's table


@dataclass(frozen=True)
class Books:
    """One study's tables. Only trials of the search are mirrored."""

    store: Store
    study: str
    costs: Sequence[Cost]
    mirror: Mirror | None = None
    metric: str = "accuracy"  # what its points' accuracy is called
    # trainings under way, as the tables had them when they were started: nobody else changes them
    _under_way: dict[tuple[Kind, int], TrialRecord] = field(default_factory=dict)
    # recorded just now, not started yet: whether the tables have their start already
    _fresh: dict[tuple[Kind, int], bool] = field(default_factory=dict)

    def trial(self, trial: Trial) -> TrialRecord:
        """What the tables knew of it when it was recorded or went on."""
        if trial.name not in self._under_way:
            known = self.store.trial(self.study, trial.kind, trial.number)
            self._under_way[trial.name] = known
        return self._under_way[trial.name]

    def record(self, trial: Trial, *, starts: bool = False) -> None:
        """The trial was suggested; where it starts next, that is written with it."""
        candidate = trial.candidate
        params, epochs = dict(candidate.params), candidate.recipe.epochs
        self._under_way[trial.name] = self.store.add_trial(
            self.study,
            trial.kind,
            trial.number,
            candidate.family.name,
            params,
            trial.seed,
            epochs,
            begins=starts,
        )
        self._fresh[trial.name] = starts
        if mirror := self._mirror_of(trial.kind):
            mirror.add(candidate.family.name, params)

    def keep(self, first: int, params: Sequence[Params]) -> None:
        """Trial `first` and those after it try these."""
        self.store.suggestions.keep(self.study, first, params)

    def reject(self, one: Reject) -> None:
        """What was suggested is infeasible."""
        self.store.add_trial(
            self.study, Kind.SEARCH, one.number, one.family, one.values, one.seed, one.epochs
        )
        if self.mirror:
            self.mirror.add(one.family, one.values)
        self.fail(Kind.SEARCH, one.number, Failure(one.reason, None, ""))

    def start(self, trial: Trial) -> int:
        """The training is about to start; returns the last epoch of it that is stored, 0 when there is none."""
        if self._fresh.pop(trial.name, False):
            return 0
        return self.store.attempts.begin(self.study, trial.kind, trial.number)

    def ends(self, trial: Trial) -> Ends:
        """How often the training was ended since the last epoch that it finished."""
        if trial.name in self._fresh:
            return Ends()
        return self.store.attempts.ends(self.study, trial.kind, trial.number)

    def died(self, trial: Trial) -> None:
        """The training's own process ended."""
        self.store.attempts.died(self.study, trial.kind, trial.number)

    def interrupt(self, running: Iterable[tuple[Kind, int]]) -> None:
        """The search ends from outside, which says nothing against the trainings that run or were about to."""
        about_to = (name for name, begun in self._fresh.items() if begun)
        for kind, number in {*running, *about_to}:
            self.store.attempts.withdraw(self.study, kind, number)
        self._fresh.clear()

    def over(self, trial: Trial) -> None:
        """The training ended and its record stays as it was; nothing of it is under way."""
        self._under_way.pop(trial.name, None)
        self.store.attempts.clear(self.study, trial.kind, trial.number)

    def epochs(self, finished: Sequence[tuple[Trial, EpochResult]]) -> None:
        """These trainings have finished these epochs."""
        records = [
            (trial.name, EpochRecord(one.epoch, one.metrics, one.gate_rates))
            for trial, one in finished
        ]
        self.store.add_epochs(self.study, records)

    def rung(self, trial: Trial, rung: Rung) -> None:
        """What the trial showed at a rung."""
        data = {"points": [point_row(point) for point in rung.points], "outlook": rung.outlook}
        self.store.add_rung(self.study, trial.kind, trial.number, rung.epoch, data)

    def end(self, trial: Trial, seen: Outcome | Rung) -> list[PointRecord]:
        """The training is over, or stopped at a rung; returns its points as they are stored."""
        return self.end_all([(trial, seen)])[0]

    def end_all(self, ended: Sequence[tuple[Trial, Outcome | Rung]]) -> list[list[PointRecord]]:
        """These trainings are over, or stopped at a rung; returns the points of each as they are stored."""
        known = [self.trial(trial) for trial, _ in ended]
        finished = [
            _finished(trial, seen, before)
            for (trial, seen), before in zip(ended, known, strict=True)
        ]
        points = self.store.finish_trials(self.study, finished)
        for before, end in zip(known, finished, strict=True):
            self._under_way.pop((end.kind, end.number))
            self.mirror_end(replace(before, state=end.state, result=dict(end.result)), end.points)
        return points

    def resume(self, trial: Trial) -> None:
        """A stopped trial goes on."""
        self._under_way.pop(trial.name, None)
        self.store.resume_trial(self.study, trial.kind, trial.number)

    def fail(self, kind: Kind, number: int, failure: Failure) -> None:
        self._under_way.pop((kind, number), None)
        self._fresh.pop((kind, number), None)
        self.store.fail_trial(
            self.study, kind, number, error=failure.error, epoch=failure.epoch, trace=failure.trace
        )
        if mirror := self._mirror_of(kind):
            mirror.fail(number)

    def repeat(self, one: Repeat) -> None:
        """A trial takes the result of an equal one."""
        source = self.store.trial(self.study, Kind.SEARCH, one.of)
        self.store.finish_trial(
            self.study,
            Kind.SEARCH,
            one.number,
            points=[],
            result=source.result,
            seconds=0.0,
            of_trial=one.of,
        )
        record = self.store.trial(self.study, Kind.SEARCH, one.number)
        self.mirror_end(record, self.store.points(self.study, kind=Kind.SEARCH, number=one.of))

    def mirror_end(self, record: TrialRecord, points: Sequence[OperatingPoint]) -> None:
        """Write to Optuna's mirror how a trial ended; it may have that already."""
        mirror = self._mirror_of(record.kind)
        if mirror is None:
            return
        one = chosen_of(points)
        values = one.accuracy, *(float(cost.of(one)) for cost in self.costs)
        if record.state == State.STOPPED:
            mirror.stop(record.number, record.result["stopped_at"], values)
        else:
            mirror.tell(record.number, values, self._own_front(points))

    def _own_front(self, points: Sequence[OperatingPoint]) -> list[dict[str, float]]:
        """Accuracy and costs of those points that no other of the same trial beats, as many as a table can show."""
        best = front(repeatable(points), self.costs)
        return [
            {self.metric: p.accuracy} | {cost.name: cost.of(p) for cost in self.costs}
            for p in thinned(best, MOST_POINTS)
        ]

    def close(self) -> None:
        if self.mirror:
            with suppress(TakenOverError):  # the study's next driver writes it
                self.mirror.close()

    def _mirror_of(self, kind: Kind) -> Mirror | None:
        return self.mirror if kind == Kind.SEARCH else None


def _finished(trial: Trial, seen: Outcome | Rung, before: TrialRecord) -> Finished:
    """How the training ended, as the tables keep it; `before`: what they say now, its earlier seconds for one."""
    # its end may be there already, where Ctrl-C came between ours and Optuna's tables
    fresh = seen.seconds if before.state == State.RUNNING else 0.0
    result: dict[str, Any] = {
        "parameters": seen.parameters,
        "plain_macs": seen.plain_macs,
        "execution": seen.execution,
    }
    result |= (
        {"inspection": seen.inspection} if isinstance(seen, Outcome) else {"stopped_at": seen.epoch}
    )
    result |= {} if trial.source is None else {"finalist_of": trial.source}
    return Finished(
        kind=trial.kind,
        number=trial.number,
        points=seen.points,
        result=result,
        seconds=before.seconds + fresh,
        state=State.COMPLETE if isinstance(seen, Outcome) else State.STOPPED,
    )
