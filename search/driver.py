"""The driver of a study: asks, submits, writes, tells. One a study at a time; workers only train.

Our tables are the truth and are written first; Optuna is told next; MLflow is a view that follows when it can.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from search.engine import Engine
from search.front import Point, Reference
from search.frontier import Frontier
from search.jobs import candidate_of, job_of
from search.plain_nets import epochs_of, ladder
from search.plain_pool import PlainPool
from search.points import curve_of
from search.progress import Progress
from search.rungs import Rungs, rung_epochs
from search.sampling import Refused, trial_seed
from search.study import OptunaStudy
from search.study_file import StudySpec
from search.trial import EpochResult, Event, Failure, Job, Outcome, Rung
from search.twins import Twins
from spaces.family import Candidate
from storage.records import EpochRecord, Kind, RungRecord, TrialRecord
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
    """Runs one study to the end of its budget."""

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
    _flying: dict[tuple[Kind, int], Job] = field(default_factory=dict)
    _waiting: deque[Job] = field(default_factory=deque)
    _asked: int = 0
    _clocked: float = 0.0
    _crashes: Counter[tuple[Kind, int]] = field(default_factory=Counter)
    _failed_in_a_row: int = 0
    _news: list[tuple[Kind, int]] = field(default_factory=list)
    _done: Counter[str] = field(default_factory=Counter)  # trials by state

    def __post_init__(self) -> None:
        self.frontier = Frontier(self.spec, self.store, self.reference)
        self.box = self.frontier.box
        self.rungs = Rungs()
        self.plain = PlainPool(self.spec, self.optuna.spaces)
        self.twins = Twins()
        self.optuna.thinker.price = self.plain.price

    @property
    def front(self) -> list[Point]:
        return self.frontier.points

    @property
    def plateau(self) -> bool:
        """Whether the study ended because its front grows no more."""
        return self.frontier.plateau

    def run(self) -> bool:
        """Go on until the budget is spent or the front grows no more; False when hours ran out with trials left.

        Raises HopelessError. KeyboardInterrupt passes through: every finished epoch is stored by then.
        """
        try:
            self._take_up()
            self._clocked = self.clock()
            while True:
                if not self.ours():
                    raise HopelessError("another process has taken this study over; dynafront status shows how it is")
                in_time = self._in_time()
                while in_time and len(self._flying) < self.engine.slots and (job := self._next_job()):
                    self._start(job)
                if self._flying and self._may_ask():
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
        return not self._flying and not self._waiting and not self._may_ask()

    def _may_ask(self) -> bool:
        return self._asked < self.spec.budget.trials and not self.plateau

    def _count_time(self, at_least: float) -> None:
        """Add the time that went by to the study's, once it is worth a write."""
        passed = self.clock() - self._clocked if self._clocked else 0.0
        if passed >= at_least:
            self.store.add_seconds(self.spec.study, passed)
            self._clocked += passed

    def _take_up(self) -> None:
        """Rebuild what is only in memory from our tables, and queue what was under way."""
        name = self.spec.study
        trials = {t.number: t for t in self.store.trials(name, kind="search")}
        plains = self.store.trials(name, kind="static")
        for plain in plains:
            if plain.state != "failed":
                self.plain.add(plain)
            if plain.state == "complete":
                self._count_plain([vars(p) for p in self.store.points(name, kind="static", number=plain.number)])
        self._take_up_told(trials)
        self._asked = self.optuna.asked()
        repeats = self._take_up_known(trials)
        for trial in self.store.trials(name, state="running"):
            if trial.kind == "finalist":
                continue
            if trial.kind == "static" or trial.number not in repeats:
                self._queue(trial)
        if self.ladder:
            self._queue_ladder()
        self.progress.static_left = sum(job.kind == "static" for job in self._waiting)
        self.frontier.take_up([*trials.values(), *plains])
        self._done = Counter(t.state for t in trials.values())
        self._refocus()
        self._show()
        for number, twin in repeats.items():
            self._answer_from(twin, number)

    def _take_up_known(self, trials: Mapping[int, TrialRecord]) -> dict[int, int]:
        """Remember the candidates; returns the trials under way that only wait for an equal one, which by number."""
        repeats = {}
        for number, trial in sorted(trials.items()):
            if trial.state != "failed" and trial.of_trial is None:
                twin = self.twins.first(candidate_of(trial), number)
                if twin != number and trial.state == "running":
                    repeats[number] = twin
        return repeats

    def _take_up_told(self, trials: Mapping[int, TrialRecord]) -> None:
        """Tell sampler and rungs what our tables know, in the order in which it became known."""
        rows: dict[int, list[Any]] = {}
        for point in self.store.points(self.spec.study, kind="search"):
            rows.setdefault(point.trial, []).append(vars(point))
        shown: dict[tuple[int, int | None], list[Any]] = {}
        for rung in self.store.rungs(self.spec.study):
            trial = trials[rung.trial]
            shown[rung.trial, rung.epoch] = rung.data["points"]
            if trial.state == "running" and not self._went_on(rung):
                continue  # whether it was decided is not known; its training shows this rung again
            stopped = trial.state == "stopped" and trial.result.get("stopped_at") == rung.epoch
            curve = curve_of(rung.data["points"], self.box, self.spec.costs)
            outlook = self._outlook(rung.data["outlook"])
            self.rungs.restore(trial.number, _group(trial), rung.epoch, curve, outlook, stopped=stopped)
            self.optuna.look(trial.number, rung.epoch, curve, self._chosen(rung.data["points"])[0])
        for number in self.optuna.unfinished():
            record = trials.get(number)
            if record is None or record.state == "failed":
                self.optuna.fail(number)
            elif record.state != "running":
                source = number if record.of_trial is None else record.of_trial
                answered = shown.get((source, record.result.get("stopped_at")))  # the twin may have gone on since
                self._told(record, rows[source] if answered is None else answered)

    def _went_on(self, rung: RungRecord) -> bool:
        return any(one.epoch > rung.epoch for one in self.store.epochs(self.spec.study, "search", rung.trial))

    def _told(self, record: TrialRecord, points: Sequence[Mapping[str, Any]]) -> None:
        """Sampler and rungs learn how a trial ended."""
        curve = curve_of(points, self.box, self.spec.costs)
        chosen, values = self._chosen(points)
        epoch = record.result.get("stopped_at", record.epochs)
        ended = epoch >= record.epochs
        self.optuna.look(record.number, epoch, curve, chosen, ended=ended)
        if record.state == "stopped":
            self.optuna.stop(record.number, epoch, values)
            return
        if ended and record.of_trial is None:
            self.rungs.end(record.number, _group(record), curve)
        self.optuna.tell(record.number, values)

    def _chosen(self, points: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(losses, values) of the point that a training was made for."""
        one = next((p for p in points if p.get("chosen")), points[0])
        values = (one["accuracy"], *(one[cost] for cost in self.spec.costs))
        return tuple(map(float, self.box.curve([values])[0])), values

    def _spread_news(self) -> None:
        # only now that the next trials run: followers share this process and would slow the asking down
        for kind, number in self._news:
            self.follower.trial_finished(kind, number)
        self._news.clear()

    def _next_job(self) -> Job | None:
        if self._waiting:
            return self._waiting.popleft()
        if self.spec.early_stopping and (number := self.rungs.promising()) is not None:
            return self._resumed(number)
        while self._may_ask():
            number, candidate = self.optuna.ask()
            self._asked += 1
            if isinstance(candidate, Refused):
                self._refuse(number, candidate)
                continue
            record = self._recorded("search", number, candidate)
            if (twin := self.twins.first(candidate, number)) != number:
                self._answer_from(twin, number)
                continue
            if job := self._ready(record):
                return job
            if self._waiting:  # the plain network that it waits for
                return self._waiting.popleft()
        return None

    def _resumed(self, number: int) -> Job:
        """A stopped trial goes on from its checkpoint."""
        epoch = self.rungs.resume(number)
        self.store.resume_trial(self.spec.study, "search", number)
        self._done["stopped"] -= 1
        self.frontier.read()
        job = self._ready(self.store.trial(self.spec.study, "search", number))
        assert job is not None
        self.progress.trial_resumed(job, epoch)
        return job

    def _refuse(self, number: int, refused: Refused) -> None:
        """Record a combination that its family refuses as a failed trial: the sampler goes on from there."""
        seed, epochs = trial_seed(self.spec.seed, number), epochs_of(self.spec, refused.family)
        self.store.add_trial(self.spec.study, "search", number, refused.family, refused.params, seed, epochs)
        self.optuna.confirm(number)
        self._failed_before_training(number, refused.reason)
        self.progress.say(f"trial {number} is refused: {refused.reason}")

    def _failed_before_training(self, number: int, reason: str) -> None:
        self.store.fail_trial(self.spec.study, "search", number, error=reason, epoch=None, trace="")
        self.optuna.fail(number)
        self._done["failed"] += 1
        self._show()

    def _recorded(self, kind: Kind, number: int, candidate: Candidate) -> TrialRecord:
        """The candidate as a trial of our tables, and of Optuna's mirror."""
        seed, params = trial_seed(self.spec.seed, number), dict(candidate.params)
        name, epochs = candidate.family.name, candidate.recipe.epochs
        self.store.add_trial(self.spec.study, kind, number, name, params, seed, epochs)
        if kind == "search":
            self.optuna.confirm(number)
        record = self.store.trial(self.spec.study, kind, number)
        assert record is not None
        return record

    def _ready(self, record: TrialRecord | None) -> Job | None:
        """The job of a trial; None while the plain network that it starts from is still to be trained."""
        assert record is not None
        # processes that each take all cores slow each other down
        threads = max(1, (os.cpu_count() or 1) // self.engine.slots) if self.engine.slots > 1 else None
        job = job_of(self.spec, record, self.checkpoints, threads)
        if record.kind == "search" and self.spec.early_stopping:
            decided = {epoch for epoch, seen in self.rungs.seen.items() if record.number in seen}
            job = replace(job, rungs=tuple(e for e in rung_epochs(record.epochs) if e not in decided))
        if (plain := self.plain.start_of(candidate_of(record))) is None:
            return job
        found = self.plain.records.get(plain.key)
        if found is None:
            found = self._recorded_plain(plain)
            self._queue(found)
            self.progress.static_left += 1
        if found.state == "complete":
            return job
        self.plain.hold(record, plain)
        return None

    def _queue(self, record: TrialRecord | None) -> None:
        """The trial is trained when its turn comes, or waits for its plain network."""
        if job := self._ready(record):
            self._waiting.append(job)

    def _recorded_plain(self, plain: Candidate) -> TrialRecord:
        number = len(self.store.trials(self.spec.study, kind="static"))
        return self.plain.add(self._recorded("static", number, plain))

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
        if isinstance(event, Rung):
            self._judge(job, event)
            return
        self._flying.pop(job.name)
        if isinstance(event, Outcome):
            self._failed_in_a_row = 0
            self._finish(job, event)
        else:
            self._fail(job, event)
        self._news.append(job.name)

    def _judge(self, job: Job, rung: Rung) -> None:
        """Whether a trial goes on after a rung; if not it ends here, and its points count."""
        curve = curve_of(rung.points, self.box, self.spec.costs)
        data = {"points": rung.points, "outlook": rung.outlook}
        self.store.add_rung(self.spec.study, job.kind, job.number, rung.epoch, data)
        self.optuna.look(job.number, rung.epoch, curve, self._chosen(rung.points)[0])
        go_on = self.rungs.report(job.number, _group(job), rung.epoch, curve, self._outlook(rung.outlook))
        if not go_on:
            self._flying.pop(job.name)
            self._end(job, rung.points, rung, stopped_at=rung.epoch)
            self._news.append(job.name)
        self.engine.answer(job, go_on)

    def _outlook(self, compute: float | None) -> list[float] | None:
        """What each cost will be at the end over what it is now: compute still falls, parameters stay."""
        return None if compute is None else [1.0 if cost == "parameters" else compute for cost in self.spec.costs]

    def _finish(self, job: Job, outcome: Outcome) -> None:
        if job.kind == "static":
            self._store_end(job, outcome.points, outcome)
            self._count_plain(outcome.points)
            joined = self._extend_front(job)
            self.progress.trial_finished(job, joined)
            self._release(job)
        else:
            self._end(job, outcome.points, outcome)

    def _count_plain(self, points: Sequence[Mapping[str, Any]]) -> None:
        """What a plain network offers is there: dynamic ones have to beat it."""
        curve = curve_of(points, self.box, self.spec.costs)
        self.optuna.rival(curve)
        self.rungs.rival(curve)

    def _end(self, job: Job, points: list[dict[str, Any]], seen: Outcome | Rung, stopped_at: int | None = None) -> None:
        record = self._store_end(job, points, seen, stopped_at)
        self._told(record, points)
        self._done[record.state] += 1
        joined = self._extend_front(job)
        if stopped_at is None:
            self.progress.trial_finished(job, joined)
        else:
            self.progress.trial_stopped(job, stopped_at, joined)
        for waiting in self.twins.finished(job.number):
            self._answer(record, waiting)

    def _store_end(
        self, job: Job, points: list[dict[str, Any]], seen: Outcome | Rung, stopped_at: int | None = None
    ) -> TrialRecord:
        before = self.store.trial(self.spec.study, job.kind, job.number)
        assert before is not None
        result = {"parameters": seen.parameters, "plain_macs": seen.plain_macs, "execution": seen.execution}
        result |= {"inspection": seen.inspection} if isinstance(seen, Outcome) else {"stopped_at": stopped_at}
        self.store.finish_trial(
            self.spec.study,
            job.kind,
            job.number,
            points=[{**p, "chosen": i == 0} for i, p in enumerate(points)],
            result=result,
            seconds=before.seconds + seen.seconds,
            state="complete" if stopped_at is None else "stopped",
        )
        after = self.store.trial(self.spec.study, job.kind, job.number)
        assert after is not None
        return after

    def _extend_front(self, job: Job) -> list[Point]:
        joined = self.frontier.extend(job.kind, job.number)
        if joined:
            self.follower.front_changed()
        self._refocus()
        self._show()
        return joined

    def _refocus(self) -> None:
        """Let sampler and rungs look at the region that the study asks for."""
        self.optuna.thinker.scale = self.rungs.scale = self.frontier.scale

    def _release(self, job: Job) -> None:
        """A plain network is trained: the trials that wait for it may start."""
        record = self.store.trial(self.spec.study, "static", job.number)
        assert record is not None
        for held in self.plain.trained(record):
            self._queue(held)

    def _fail(self, job: Job, failure: Failure) -> None:
        self._crashes[job.name] += failure.crashed
        if failure.crashed and self._crashes[job.name] < ATTEMPTS:
            self.progress.say(f"trial {job.number}: {failure.error}; it goes on from its last epoch")
            again = self._ready(self.store.trial(self.spec.study, job.kind, job.number))
            assert again is not None
            self._waiting.appendleft(again)
            return
        self.store.fail_trial(
            self.spec.study,
            job.kind,
            job.number,
            error=failure.error,
            epoch=failure.epoch,
            trace=failure.trace,
        )
        self.progress.trial_failed(job, failure)
        if job.kind == "search":
            self.optuna.fail(job.number)
            self._done["failed"] += 1
            if (other := self.twins.failed(candidate_of(job), job.number)) is not None:
                self._queue(self.store.trial(self.spec.study, "search", other))
        else:
            self._abandon(job, failure.error)
        self._show()
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= HOPELESS:
            raise HopelessError(
                f"{HOPELESS} trials in a row failed, the last with: {failure.error}; "
                "put that right, then search again to go on"
            )

    def _abandon(self, job: Job, error: str) -> None:
        """A plain network failed, and with it the trials that were to start from it."""
        reason = f"the plain network that it was to start from failed: {error}"
        for held in self.plain.failed(candidate_of(job)):
            for number in self.twins.abandoned(candidate_of(held), held.number):
                self._failed_before_training(number, reason)

    def _answer_from(self, twin: int, number: int) -> None:
        """A candidate that is there before: its result as stored, or once it is finished; no training."""
        found = self.store.trial(self.spec.study, "search", twin)
        assert found is not None
        if found.state == "running":
            self.twins.wait(number, twin)
        else:
            self._answer(found, number)

    def _answer(self, twin: TrialRecord, number: int) -> None:
        name = self.spec.study
        self.store.finish_trial(
            name, "search", number, points=[], result=twin.result, seconds=0.0, of_trial=twin.number
        )
        record = self.store.trial(name, "search", number)
        assert record is not None
        self._told(record, [vars(p) for p in self.store.points(name, kind="search", number=twin.number)])
        self._done["complete"] += 1
        self._show()
        self._news.append(("search", number))

    def _queue_ladder(self) -> None:
        """Plain nets of the sizes that the study searches, and narrower ones, under the families' default recipes."""
        for candidate in ladder(self.optuna.spaces, self.spec.budget.epochs):
            if candidate.key not in self.plain.records:
                self._queue(self._recorded_plain(candidate))

    def _in_time(self) -> bool:
        hours = self.spec.budget.hours
        if hours is None:
            return True
        record = self.store.study(self.spec.study)
        assert record is not None
        return record.seconds_spent + self.clock() - self._clocked < 3600 * hours

    def _show(self) -> None:
        counts = self._done
        self.progress.counts(complete=counts["complete"], failed=counts["failed"], stopped=counts["stopped"])
        self.progress.show_front(self.front, self.frontier.volume)


def _group(one: TrialRecord | Job) -> str:
    """Trainings that learn alike: of a family and of a length."""
    return f"{one.family}, {one.epochs} epochs"
