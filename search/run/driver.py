"""The driver of a study: does what a plan decides. One a study at a time; workers only train.

Our tables are the truth and are written first; Optuna's mirror follows; MLflow is a view that follows when it can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from search.run.arrivals import Arrivals
from search.run.books import Books
from search.run.engine import Engine
from search.run.follower import Follower, NoFollower
from search.run.giving_up import (
    FailuresInARow,
    HopelessError,
    TimeIsOverError,
    check_goes_on,
    counted,
    given_up,
    kept_apart,
    without_baseline,
)
from search.run.job import Doing, Event, Failure, Job, Notice, Outcome, Rung
from search.run.jobs import job_of
from search.run.lost_baselines import LostBaselines, trial_of
from search.run.memory_tries import MemoryTries
from search.run.progress import Progress
from search.run.reached import Reached
from search.run.tally import Tally
from search.run.time_spent import TimeSpent
from search.schedule.decisions import Keep, Plan, Record, Reject, Repeat, Resume, Start, Trial
from search.spec import StudySpec
from storage.attempts import Ends
from storage.errors import TakenOverError, UnwrittenError
from storage.records import Kind, PointRecord, State, TrialRecord, training_text
from trainers.fit import EpochResult

logger = logging.getLogger(f"dynafront.{__name__}")

CLOCK_SECONDS = 5.0  # between writes of the time spent
TICK = 1.0  # seconds between checks of budget and lease while nothing happens


@dataclass
class Driver:
    """Runs a plan to its end, or until the study's time is spent."""

    spec: StudySpec
    plan: Plan
    books: Books
    time: TimeSpent
    engine: Engine
    progress: Progress
    checkpoints: str
    counts: Kind = Kind.SEARCH  # the trainings whose number progress shows
    follower: Follower = field(default_factory=NoFollower)
    ours: Callable[[], bool] = lambda: True  # whether this process still holds the study's lease
    formatted: Callable[[Job], Job] = lambda job: job  # with what was measured for its size
    has_room: Callable[[], bool] = lambda: True  # whether nothing waits in the engine already
    baselines: LostBaselines = field(default_factory=LostBaselines)
    memory: MemoryTries = field(default_factory=MemoryTries)
    _running: dict[tuple[Kind, int], Trial] = field(default_factory=dict)
    _reached: Reached = field(default_factory=Reached)
    _noticed: str = ""
    _news: list[tuple[Kind, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.engine)
        self._tally = Tally(self.progress, self.plan, self.counts)
        self._failures = FailuresInARow(self.spec.run.max_failures)

    def run(self) -> bool:
        """Go on until the plan is done; False when hours ran out with trials left.

        Raises HopelessError. KeyboardInterrupt passes through: every finished epoch is stored by then.
        """
        known = self.books.store.trials(self.spec.study, kind=self.counts)
        self._tally.know(trial.state for trial in known)
        try:
            with suppress(TimeIsOverError):
                while self._step():
                    pass
            self._take_in_rest()
        except KeyboardInterrupt:
            self._take_in_rest()
            raise
        except TakenOverError as error:  # before the lease knew
            raise HopelessError(str(error)) from error
        finally:
            with ExitStack() as end:  # the last first, and each also where one before it fails
                end.callback(self.books.close)
                end.callback(self.plan.close)
                end.callback(self._spread_news)
                if self.ours():
                    end.callback(self._put_down)
                end.callback(self.engine.close)
        waiting = self._running or self.baselines.ready or self.memory.waiting
        return not waiting and self.plan.finished

    def _put_down(self) -> None:
        """Write that what is under way was interrupted on purpose, and the time, unless the study is another's now."""
        with suppress(TakenOverError):
            self.books.interrupt(self._running)
            self.time.count()

    def _step(self) -> bool:
        """Start what can be started and take in what happened; False when there is nothing to wait for."""
        check_goes_on(ours=self.ours())
        in_time = self.time.left
        self._arrivals.look()
        while in_time and self._has_room and self._do_next():
            pass
        if self._running:
            self.plan.ask_ahead()
        self._spread_news()
        if not self._running or not in_time:
            return False
        if happened := self._arrivals.next(TICK):
            self._handle(happened)
        self.time.count(CLOCK_SECONDS)
        return True

    def _take_in_rest(self) -> None:
        """What was reported before the search ends is kept; nothing is started any more."""
        if self.ours() and (epochs := self._arrivals.epochs()):
            self._handle(epochs)
        if self.ours() and (ends := self._arrivals.ends()):
            self._handle(ends)

    @property
    def _has_room(self) -> bool:
        """Whether one more training may start now. A report is taken in while the next suggestion is computed."""
        if not self.has_room() or (self._arrivals.waiting and not self.plan.ready):
            return False
        if self.memory.waiting or any(map(self.memory.is_alone, self._running)):
            return not self._running
        return len(self._running) - self._arrivals.freed < self.engine.slots

    def _do_next(self) -> bool:
        """Do one thing that the plan decides; False when it has nothing to do now."""
        ready = self.memory.waiting or self.baselines.ready
        match ready.popleft() if ready else self.plan.next():
            case None:
                return False
            case Keep(first, params):
                self.books.keep(first, params)
            case Record(trial, starts):
                self.books.record(trial, starts=starts)
            case Reject() as rejected:
                self._reject(rejected)
            case Repeat() as repeat:
                self._repeat(repeat)
            case Start(trial, rungs):
                self._start(trial, rungs)
            case Resume(trial, epoch, rungs):
                self._resume(trial, epoch, rungs)
        return True

    def _start(self, trial: Trial, rungs: tuple[int, ...]) -> None:
        job = self._job(trial, rungs)
        if (lost := self.baselines.lost(job)) is not None:
            self._train_again(lost, Start(trial, rungs))
        elif (failure := given_up(ends := self.books.ends(trial))) is not None:
            self._fail(trial, job, failure)
        else:
            self._submit(trial, job, ends)

    def _submit(self, trial: Trial, job: Job, ends: Ends) -> None:
        job = replace(job, apart=kept_apart(ends), alone=ends.died > 0)
        job = self.memory.adapted(self.formatted(job))
        reached = self.books.start(trial)
        self._reached.start(trial.name, reached)
        self._running[trial.name] = trial
        logger.info("%s starts: %s %s", training_text(*trial.name), job.family, dict(job.params))
        self.progress.trial_started(job, reached)
        self.engine.submit(replace(job, reached=reached))

    def _train_again(self, lost: TrialRecord, start: Start) -> None:
        """A trial starts from a baseline whose checkpoint is gone: that is trained first, as it was before."""
        baseline = trial_of(lost)
        if not self.baselines.hold(baseline, start):
            return
        job = self._job(baseline, ())
        ends = self.books.ends(baseline)
        if (failure := self.baselines.hopeless(baseline) or given_up(ends)) is not None:
            self._give_up(baseline, job, failure)
            return
        self.progress.say(
            f"{training_text(lost.kind, lost.number)}: its checkpoint is missing or damaged; "
            "trials start from it, so it is trained again"
        )
        self._submit(baseline, job, ends)
        self._reached.forget(baseline.name)

    def _job(self, trial: Trial, rungs: tuple[int, ...]) -> Job:
        record, workers = self.books.trial(trial), self.engine.slots // self.spec.run.fused
        return replace(job_of(self.spec, record, self.checkpoints, workers), rungs=rungs)

    def _resume(self, trial: Trial, epoch: int, rungs: tuple[int, ...]) -> None:
        """A stopped trial goes on from its checkpoint."""
        self.books.resume(trial)
        self._tally.resume(trial.kind)
        self.progress.trial_resumed(self._job(trial, rungs), epoch)
        self._start(trial, rungs)

    def _reject(self, rejected: Reject) -> None:
        self.books.reject(rejected)
        self._tally.add(Kind.SEARCH, State.FAILED)
        self.progress.say(f"trial {rejected.number} is infeasible: {rejected.reason}")

    def _repeat(self, repeat: Repeat) -> None:
        """An equal trial has the answer; no training."""
        self.books.repeat(repeat)
        self._tally.add(Kind.SEARCH, State.COMPLETE)
        self._news.append((Kind.SEARCH, repeat.number))

    def _handle(self, happened: Sequence[tuple[Job, Event]]) -> None:
        """Take in one event, or epochs or ends of several trainings."""
        job, event = happened[0]
        if isinstance(event, EpochResult):
            self._epochs([(job, one) for job, one in happened if isinstance(one, EpochResult)])
        elif isinstance(event, Outcome):
            self._ends([(job, one) for job, one in happened if isinstance(one, Outcome)])
        elif (trial := self._running.get(job.name)) is not None:
            self._take_in(trial, job, event)
        self._arrivals.handled(happened)

    def _take_in(self, trial: Trial, job: Job, event: Event) -> None:
        match event:
            case Notice() if event.text != self._noticed:
                self._noticed = event.text  # every worker has it
                self.progress.say(event.text)
            case Doing():
                self.progress.training_does(job, event.what)
            case Rung():
                self._judge(trial, job, event)
            case Failure():
                self._fail(trial, job, event)

    def _epochs(self, finished: list[tuple[Job, EpochResult]]) -> None:
        """Trainings have finished these epochs, each training its own one after the other."""
        self.books.epochs([(self._running[job.name], epoch) for job, epoch in finished])
        for job, epoch in finished:
            if behind := self._reached.behind(job.name, epoch.epoch):
                self.progress.say(behind)
            self.progress.epoch(job, epoch)

    def _ends(self, ended: list[tuple[Job, Outcome]]) -> None:
        """Trainings have ended well."""
        running = self._running
        for job in [job for job, _ in ended if job.name in running]:
            if self.baselines.is_trained_again(running[job.name]):
                self._trained_again(running[job.name], job)
        mine = [(running[job.name], job, seen) for job, seen in ended if job.name in running]
        stored = self.books.end_all([(trial, seen) for trial, _, seen in mine])
        for (trial, job, seen), points in zip(mine, stored, strict=True):
            self._failures.ended_well()
            self._ended(trial, job, seen, points)

    def _trained_again(self, baseline: Trial, job: Job) -> None:
        """Its record and points stay as they are; the trials that wait for it can start."""
        self._running.pop(baseline.name)
        self.books.over(baseline)
        self.progress.trial_finished(job, ())
        self.baselines.found(baseline)

    def _judge(self, trial: Trial, job: Job, rung: Rung) -> None:
        """Whether a trial goes on after a rung; if not it ends here, and its points count."""
        self.books.rung(trial, rung)
        goes_on = self.plan.report(trial, rung.epoch, rung.points, rung.outlook)
        if not goes_on:
            self._ended(trial, job, rung, self.books.end(trial, rung))
            self._arrivals.forget(job)
        self.engine.answer(job, goes_on)

    def _ended(
        self, trial: Trial, job: Job, seen: Outcome | Rung, points: Sequence[PointRecord]
    ) -> None:
        """It is written how the training ended, with these points."""
        self._running.pop(trial.name)
        stopped_at = seen.epoch if isinstance(seen, Rung) else None
        how = "ends" if stopped_at is None else f"is stopped after epoch {stopped_at}"
        name = training_text(*trial.name)
        logger.info("%s %s after %.1f s: %d points", name, how, seen.seconds, len(points))
        ended = self.plan.ended(trial, points, stopped_at)
        self._tally.add(trial.kind, State.COMPLETE if stopped_at is None else State.STOPPED)
        if ended.joined:
            self.follower.front_changed()
        self._tally.tell(job, ended.joined, stopped_at)
        self._news.append(trial.name)
        for repeat in ended.repeats:
            self._repeat(repeat)

    def _fail(self, trial: Trial, job: Job, failure: Failure) -> None:
        logger.warning("%s failed: %s", training_text(*trial.name), failure.error)
        if failure.unwritten:  # as all others would; this one goes on with the next search
            raise UnwrittenError(failure.error)
        if (last := self._tried_again(trial, job, failure)) is None:
            return
        self._running.pop(trial.name, None)
        if self.baselines.is_trained_again(trial):
            self._give_up(trial, job, last)
            return
        self.books.fail(trial.kind, trial.number, last)
        self.progress.trial_failed(job, last)
        self._tally.add(trial.kind, State.FAILED)
        for number in self.plan.failed(trial):
            self.books.fail(Kind.SEARCH, number, without_baseline(last, "was to start from failed"))
            self._tally.add(Kind.SEARCH, State.FAILED)
        self._news.append(trial.name)
        self._failures.failed(last)

    def _tried_again(self, trial: Trial, job: Job, failure: Failure) -> Failure | None:
        """Train it once more if its process died, or had no memory left; what is said where that cannot help."""
        if not (failure.crashed or failure.memory):
            return failure
        if not failure.lost:
            self.books.died(trial)
        if given_up(ends := self.books.ends(trial)) is not None:
            return self.memory.told(job, counted(failure, ends))
        start, how = self.plan.start(trial), "it goes on from its last epoch"
        if failure.memory:
            if (found := self.memory.again(job, failure, start)) is None:
                return self.memory.told(job, failure)
            how = found
        self.progress.say(f"{training_text(*trial.name)}: {failure.error}; {how}")
        if start in self.memory.waiting:
            self._running.pop(trial.name)
            self.progress.trial_waits(job)
        else:
            self._start(trial, start.rungs)
        return None

    def _give_up(self, baseline: Trial, job: Job, failure: Failure) -> None:
        """A baseline cannot be trained again: the trials that wait for it fail."""
        self.books.over(baseline)
        self.progress.trial_failed(job, failure)
        for start in self.baselines.failed(baseline, failure):
            told = without_baseline(failure, "starts from could not be trained again")
            self._fail(start.trial, self._job(start.trial, ()), told)

    def _spread_news(self) -> None:
        # only now that the next trials run: followers share this process and would slow the next suggestion down
        for kind, number in self._news:
            self.follower.trial_finished(kind, number)
        self._news.clear()
