"""Taking a study up: what its tables know is reported to the scheduler once more, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Mapping

from search.run.books import Books
from search.schedule.decisions import Trial
from search.schedule.scheduler import Scheduler
from storage.records import Kind, OperatingPoint, PointRecord, RungRecord, State, TrialRecord


def take_up(scheduler: Scheduler, books: Books) -> None:
    """Bring the scheduler, and Optuna's mirror, to where the study is; what was under way goes on."""
    store, study = books.store, books.study
    trials = store.trials(study, kind=Kind.SEARCH)
    records = [*store.trials(study, kind=Kind.BASELINE), *trials]
    restored = [(record, scheduler.restore(record)) for record in records]
    if books.mirror:
        for number, params in books.mirror.unknown.items():
            scheduler.skip(number, params)
            books.mirror.fail(number)
    scheduler.restore_ahead(store.suggestions.left(study, scheduler.asked))
    known = {trial.name: trial for _, trial in restored if trial is not None}
    shown = _report(scheduler, books, known, {record.number: record for record in trials})
    points = _points(books)
    for record in sorted(records, key=lambda r: (r.finished_at or r.started_at, r.number)):
        if record.state == State.FAILED and record.kind == Kind.SEARCH and books.mirror:
            books.mirror.fail(record.number)
        elif record.of_trial is not None and record.state != State.RUNNING:
            _repeat(scheduler, books, record, shown, points)
        elif record.state in (State.COMPLETE, State.STOPPED):
            own = points[record.kind, record.number]
            books.mirror_end(record, own)
            scheduler.ended(known[record.kind, record.number], own, record.result.get("stopped_at"))
    under_way = {
        (record.kind, record.number) for record in records if record.state == State.RUNNING
    }
    scheduler.go_on(trial for name, trial in sorted(known.items()) if name in under_way)


Shown = Mapping[tuple[int, int | None], list[OperatingPoint]]  # at rungs, by trial and epoch


def _report(
    scheduler: Scheduler,
    books: Books,
    known: Mapping[tuple[Kind, int], Trial],
    trials: Mapping[int, TrialRecord],
) -> Shown:
    """Report every rung again, with what was decided at it."""
    shown: dict[tuple[int, int | None], list[OperatingPoint]] = {}
    for rung in books.store.rungs(books.study):
        record, trial = trials[rung.trial], known.get((Kind.SEARCH, rung.trial))
        points = shown[rung.trial, rung.epoch] = [
            OperatingPoint(**point) for point in rung.data["points"]
        ]
        if trial is None or (record.state == State.RUNNING and not _went_on(books, rung)):
            continue  # whether it was decided is not known; its training shows this rung again
        stopped = record.state == State.STOPPED and record.result.get("stopped_at") == rung.epoch
        scheduler.report(trial, rung.epoch, points, rung.data["outlook"], decided=not stopped)
    return shown


def _went_on(books: Books, rung: RungRecord) -> bool:
    return any(
        one.epoch > rung.epoch for one in books.store.epochs(books.study, Kind.SEARCH, rung.trial)
    )


def _repeat(
    scheduler: Scheduler,
    books: Books,
    record: TrialRecord,
    shown: Shown,
    points: Mapping[tuple[Kind, int], list[PointRecord]],
) -> None:
    """A trial that took the result of an equal one, as that was then: it may have gone on since."""
    assert record.of_trial is not None
    stopped_at = record.result.get("stopped_at")
    answered = shown.get((record.of_trial, stopped_at)) or points[Kind.SEARCH, record.of_trial]
    books.mirror_end(record, answered)
    scheduler.restore_repeat(record.number, answered, stopped_at or record.epochs)


def _points(books: Books) -> dict[tuple[Kind, int], list[PointRecord]]:
    found: dict[tuple[Kind, int], list[PointRecord]] = {}
    for point in books.store.points(books.study, rates=False):
        found.setdefault(point.training, []).append(point)
    return found
