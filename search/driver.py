"""The driver of a study: asks, submits, writes, tells. One a study at a time; workers only train.

Our tables are the truth and are written first; Optuna is told next; MLflow is a view that follows when it can.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

from search.engine import Engine
from search.front import Point, Reference, front, hypervolume
from search.progress import Progress
from search.study import OptunaStudy, Refused, trial_seed
from search.study_file import StudySpec
from search.trial import EpochResult, Event, Failure, Job, Outcome, data_spec
from spaces.family import Candidate
from spaces.net import Knobs
from spaces.registry import family
from storage.records import EpochRecord, Kind, TrialRecord
from storage.store import Store

ATTEMPTS = 3  # of a trial whose worker process died
HOPELESS = 5  # failures in a row before the study stops: something is wrong with all of them
CLOCK_SECONDS = 5.0  # between writes of the time spent
TICK = 1.0  # seconds between looks at budget and lease while nothing happens


class Follower(Protocol):
    """Who wants to know of finished trials (the MLflow publisher)."""

    def trial_finished(self, kind: Kind, number: int) -> None: ...

    def front_changed(self) -> None: ...


class HopelessError(RuntimeError):
    """Going on makes no sense: every trial failed, or another process drives the study."""


@dataclass
class Driver:
    """Runs one study to the end of its budget. `spaces` are the narrowed dimensions by family."""

    spec: StudySpec
    store: Store
    optuna: OptunaStudy
    engine: Engine
    progress: Progress
    follower: Follower
    reference: Reference
    checkpoints: str
    ladder: bool = False
    ours: Callable[[], bool] = lambda: True  # whether this process still holds the study's lease
    clock: Callable[[], float] = time.monotonic
    front: list[Point] = field(default_factory=list)
    _flying: dict[tuple[Kind, int], Job] = field(default_factory=dict)
    _waiting: deque[Job] = field(default_factory=deque)
    _known: dict[str, int] = field(default_factory=dict)
    _asked: int = 0
    _clocked: float = 0.0
    _crashes: Counter[tuple[Kind, int]] = field(default_factory=Counter)
    _failed_in_a_row: int = 0
    _news: list[tuple[Kind, int]] = field(default_factory=list)
    _done: Counter[str] = field(default_factory=Counter)  # trials by state

    def run(self) -> bool:
        """Go on until the budget is spent; True when it is, False when hours ran out with trials left to train.

        Raises HopelessError. KeyboardInterrupt passes through: every finished epoch is stored by then.
        """
        self._take_up()
        self._clocked = self.clock()
        try:
            while True:
                if not self.ours():
                    raise HopelessError("another process has taken this study over; dynafront status shows how it is")
                in_time = self._in_time()
                while in_time and len(self._flying) < self.engine.slots and (job := self._next_job()):
                    self._start(job)
                if self._flying and self._asked < self.spec.budget.trials:
                    self.optuna.ask_ahead()
                self._spread_news()
                if not self._flying or not in_time:
                    break
                if happened := self.engine.next_event(TICK):
                    self._handle(*happened)
                self._count_time(CLOCK_SECONDS)
        finally:
            self.engine.close()
            self._count_time(0.0)
            self._spread_news()
            self.optuna.close()
        return not self._flying and not self._waiting and self._asked >= self.spec.budget.trials

    def _count_time(self, at_least: float) -> None:
        """Add the time that went by to the study's, once it is worth a write."""
        passed = self.clock() - self._clocked
        if passed >= at_least:
            self.store.add_seconds(self.spec.study, passed)
            self._clocked += passed

    def _take_up(self) -> None:
        """Bring Optuna in line with our tables after whatever ended the last run, and queue what was under way."""
        name = self.spec.study
        trials = {t.number: t for t in self.store.trials(name, kind="search")}
        for number in self.optuna.unfinished():
            record = trials.get(number)
            if record is None or record.state == "failed":
                self.optuna.fail(number)
            elif record.state == "complete":
                self._tell(number)
        self._asked = self.optuna.asked()
        self._waiting.extend(self._job(t) for t in self.store.trials(name, state="running"))
        if self.ladder:
            self._waiting.extend(self._ladder_jobs())
        self.progress.static_left = sum(job.kind == "static" for job in self._waiting)
        self._known = {
            self._candidate(t).key: t.number for t in trials.values() if t.state == "complete" and t.of_trial is None
        }
        self.front = front(standing(self._points(), self.reference), self._cost)
        self._done = Counter(t.state for t in trials.values())
        self._show()

    def _spread_news(self) -> None:
        # only now that the next trials run: followers share this process and would slow the asking down
        for kind, number in self._news:
            self.follower.trial_finished(kind, number)
        self._news.clear()

    def _next_job(self) -> Job | None:
        if self._waiting:
            return self._waiting.popleft()
        while self._asked < self.spec.budget.trials:
            number, candidate = self.optuna.ask()
            self._asked += 1
            if isinstance(candidate, Refused):
                self._refuse(number, candidate)
                continue
            job = self._new_job("search", number, candidate)
            twin = self._known.get(candidate.key)
            if twin is None:
                return job
            self._answer_from(twin, job)
        return None

    def _refuse(self, number: int, refused: Refused) -> None:
        """Record a combination that its family refuses as a failed trial: the sampler goes on from there."""
        seed, epochs = trial_seed(self.spec.seed, number), self.spec.budget.epochs
        self.store.add_trial(self.spec.study, "search", number, refused.family, refused.params, seed, epochs)
        self.optuna.confirm(number)
        self.store.fail_trial(self.spec.study, "search", number, error=refused.reason, epoch=None, trace="")
        self.optuna.fail(number)
        self._done["failed"] += 1
        self.progress.say(f"trial {number} is refused: {refused.reason}")
        self._show()

    def _new_job(self, kind: Kind, number: int, candidate: Candidate) -> Job:
        seed = trial_seed(self.spec.seed, number)
        self.store.add_trial(
            self.spec.study,
            kind,
            number,
            candidate.family.name,
            dict(candidate.params),
            seed,
            candidate.recipe.epochs,
        )
        if kind == "search":
            self.optuna.confirm(number)
        return self._job(self.store.trial(self.spec.study, kind, number))

    def _job(self, record: TrialRecord | None) -> Job:
        assert record is not None
        # processes that each take all cores slow each other down
        threads = max(1, (os.cpu_count() or 1) // self.engine.slots) if self.engine.slots > 1 else None
        return job_of(self.spec, record, self.checkpoints, threads)

    def _start(self, job: Job) -> None:
        self._flying[job.name] = job
        self.progress.trial_started(job)
        self.engine.submit(job)

    def _handle(self, job: Job, event: Event) -> None:
        if isinstance(event, EpochResult):
            record = EpochRecord(epoch=event.epoch, metrics=event.metrics, gate_rates=event.gate_rates)
            self.store.add_epoch(self.spec.study, job.kind, job.number, record)
            self.progress.epoch(job, event)
            return
        self._flying.pop(job.name)
        if isinstance(event, Outcome):
            self._failed_in_a_row = 0
            self._finish(job, event)
        else:
            self._fail(job, event)
        self._news.append(job.name)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        points = [{**p, "chosen": i == 0} for i, p in enumerate(outcome.points)]
        result = {
            "parameters": outcome.parameters,
            "plain_macs": outcome.plain_macs,
            "execution": outcome.execution,
            "inspection": outcome.inspection,
        }
        self.store.finish_trial(
            self.spec.study, job.kind, job.number, points=points, result=result, seconds=outcome.seconds
        )
        joined: list[Point] = []
        if job.kind == "search":
            candidate = Candidate.of(family(job.family), job.params, job.epochs)
            self._known.setdefault(candidate.key, job.number)
            self.optuna.tell(job.number, points[0]["accuracy"], points[0][self._cost])
            joined = self._extend_front(job)
            self._done["complete"] += 1
        self._show()
        self.progress.trial_finished(job, joined)

    def _extend_front(self, job: Job) -> list[Point]:
        stored = self.store.points(self.spec.study, kind="search", number=job.number)
        new = standing([as_point(record) for record in stored], self.reference)
        self.front = front([*self.front, *new], self._cost)
        joined = [p for p in self.front if p.trial == job.number]
        if joined:
            self.follower.front_changed()
        return joined

    def _fail(self, job: Job, failure: Failure) -> None:
        self._crashes[job.name] += failure.crashed
        if failure.crashed and self._crashes[job.name] < ATTEMPTS:
            self.progress.say(f"trial {job.number}: {failure.error}; it goes on from its last epoch")
            self._waiting.appendleft(job)
            return
        self.store.fail_trial(
            self.spec.study,
            job.kind,
            job.number,
            error=failure.error,
            epoch=failure.epoch,
            trace=failure.trace,
        )
        if job.kind == "search":
            self.optuna.fail(job.number)
            self._done["failed"] += 1
        self._show()
        self.progress.trial_failed(job, failure)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= HOPELESS:
            raise HopelessError(
                f"{HOPELESS} trials in a row failed, the last with: {failure.error}; "
                "put that right, then search again to go on"
            )

    def _answer_from(self, twin: int, job: Job) -> None:
        """A candidate that was trained before: its stored result, no training."""
        record = self.store.trial(self.spec.study, "search", twin)
        assert record is not None
        self.store.finish_trial(
            self.spec.study, job.kind, job.number, points=[], result=record.result, seconds=0.0, of_trial=twin
        )
        self._tell(job.number, twin)
        self._done["complete"] += 1
        self._show()
        self._news.append(job.name)

    def _tell(self, number: int, source: int | None = None) -> None:
        record = self.store.trial(self.spec.study, "search", number)
        assert record is not None
        source = source if source is not None else record.of_trial if record.of_trial is not None else number
        chosen = next(p for p in self.store.points(self.spec.study, kind="search", number=source) if p.chosen)
        self.optuna.tell(number, chosen.accuracy, getattr(chosen, self._cost))

    def _ladder_jobs(self) -> list[Job]:
        """Plain nets of the sizes that the study searches, and narrower ones, under the families' default recipes."""
        have = {self._candidate(t).key for t in self.store.trials(self.spec.study, kind="static")}
        number = len(have)
        jobs = []
        for candidate in ladder(self.optuna.spaces, self.spec.budget.epochs):
            if candidate.key not in have:
                jobs.append(self._new_job("static", number, candidate))
                number += 1
        return jobs

    def _candidate(self, record: TrialRecord) -> Candidate:
        return Candidate.of(family(record.family), record.params, record.epochs)

    def _points(self) -> list[Point]:
        return [as_point(record) for record in self.store.points(self.spec.study, kind="search")]

    @property
    def _cost(self) -> Any:
        return self.spec.cost

    def _in_time(self) -> bool:
        hours = self.spec.budget.hours
        if hours is None:
            return True
        record = self.store.study(self.spec.study)
        assert record is not None
        return record.seconds_spent + self.clock() - self._clocked < 3600 * hours

    def _show(self) -> None:
        self.progress.counts(complete=self._done["complete"], failed=self._done["failed"])
        volume = hypervolume(self.front, cost=self._cost, reference=self.reference) if self.front else 0.0
        self.progress.show_front(self.front, volume)


def job_of(spec: StudySpec, record: TrialRecord, checkpoints: str, threads: int | None = None) -> Job:
    """The job that trains (or trained) a stored trial; `threads` where the study file does not say."""
    return Job(
        kind=record.kind,
        number=record.number,
        family=record.family,
        params=record.params,
        epochs=record.epochs,
        seed=record.seed,
        data=data_spec(spec),
        checkpoints=checkpoints,
        key=f"{spec.study}/{record.kind}-{record.number:04d}",
        device=spec.run.device,
        precision=spec.run.precision,
        compile=spec.run.compile,
        threads=spec.run.threads or threads,
        init_from=spec.initial(record.family),
    )


def ladder(spaces: Any, epochs: int) -> list[Candidate]:
    """Plain candidates of every size in the narrowed spaces and of the family's smaller reference sizes."""
    found = {}
    for name, space in spaces.items():
        own = family(name)
        by_name = {d.name: d for d in space}
        defaults = {d.name: d.choices[0] if d.kind == "choice" and len(d.choices) == 1 else d.default for d in space}
        choices = []
        for size in own.size_dimensions:
            dimension = by_name[size]
            own_choices = dimension.choices if dimension.searched else (dimension.default,)
            choices.append(sorted({*own_choices, *own.ladder.get(size, ())}, key=str))
        for sizes in product(*choices):
            values = defaults | dict(zip(own.size_dimensions, sizes, strict=True))
            candidate = Candidate.of(own, values, epochs).plain()
            found[candidate.key] = candidate
    return list(found.values())


def standing(points: list[Point], reference: Reference) -> list[Point]:
    """The points that may join a front: better than chance, and with answers that hang on no draw.

    Stochastic and ensemble settings are measured for comparison, but cannot be shipped as they were measured.
    """
    settled = (p for p in points if not Knobs(**p.knobs).random)
    return [p for p in settled if p.accuracy > reference.accuracy]


def as_point(record: Any) -> Point:
    """A front's point from a stored one."""
    return Point(
        trial=record.trial,
        family=record.family,
        kind=record.kind,
        accuracy=record.accuracy,
        accuracy_low=record.accuracy_low,
        accuracy_high=record.accuracy_high,
        macs_mean=record.macs_mean,
        macs_p95=record.macs_p95,
        macs_max=record.macs_max,
        parameters=record.parameters,
        knobs=record.knobs,
        params=record.params,
        run_id=record.run_id,
        id=record.id,
    )
