"""With many places a driver fills those that are free before it writes what was trained there; with few it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.run.arrivals import MOST, Arrivals
from search.run.books import Books
from search.run.job import Event, Failure, Job, Outcome
from search.run.mirror_process import MANY
from search.schedule.scheduler import Scheduler
from storage.attempts import Ends
from storage.database import Database
from storage.records import Kind, State
from storage.store import Store
from tests.search.run import jobs
from tests.search.run.bench import ALONE, STOPPING, Bench, outcome, rung
from tests.search.run.test_driver import driver
from trainers.fit import EpochResult

TEXT = ALONE + "budget: {trials: 40, epochs: 2}\n"


class AtOnce:
    """An engine whose trainings have all ended as soon as all its places are taken, and are reported one by one.

    `log` has what the driver did and was told, in order.
    """

    shared = False

    def __init__(self, slots: int, log: list[str], ctrl_c_at: int | None = None) -> None:
        self.slots, self.log, self._ctrl_c_at = slots, log, ctrl_c_at
        self.events: deque[tuple[Job, Event]] = deque()
        self.submitted: list[Job] = []
        self._told = 0

    def submit(self, job: Job) -> None:
        self.log.append(f"starts {job.number}")
        self.submitted.append(job)
        shown = {"val/accuracy": 0.5, "val/macs": 1.0}
        self.events += [(job, EpochResult(epoch, shown, {})) for epoch in (1, 2)]
        self.events.append((job, outcome(0.5, 1e6 * (1 + job.number))))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        if not self.events:
            return None
        self._told += 1
        if self._told == self._ctrl_c_at:
            raise KeyboardInterrupt
        job, event = self.events.popleft()
        if isinstance(event, Outcome):
            self.log.append(f"ended {job.number}")
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        raise AssertionError("no rungs")

    def close(self) -> None: ...


def driven(
    bench: Bench, engine: AtOnce, monkeypatch: pytest.MonkeyPatch, *, ready: bool = True
) -> None:
    own = Books.end_all

    def end_all(self: Books, ended: Sequence[Any]) -> Any:
        engine.log.append("written " + ", ".join(str(trial.number) for trial, _ in ended))
        return own(self, ended)

    monkeypatch.setattr(Books, "end_all", end_all)
    # else it depends on the speed of the sampler's thread whether a place is filled or a report taken in
    monkeypatch.setattr(Scheduler, "ready", ready)
    driver(bench.spec, bench.store, bench.storage, engine, slots=engine.slots).run()


def written(line: str) -> int:
    """How many ends this line of the log says were written."""
    return line.count(",") + 1 if line.startswith("written") else 0


def states(store: Store) -> dict[int, State]:
    return {trial.number: trial.state for trial in store.trials("s", kind=Kind.SEARCH)}


def test_with_many_places_the_next_trials_start_before_it_is_written_how_those_before_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, TEXT), list[str]()
    driven(bench, AtOnce(MANY, log), monkeypatch)
    assert log[: MANY + 4] == [
        *(f"starts {number}" for number in range(MANY)),
        "ended 0",
        "ended 1",
        f"starts {MANY}",
        f"starts {MANY + 1}",
    ]
    assert log[MANY + 4] == "written 0, 1"
    behind = 0
    for line in log:
        behind += line.startswith("ended") - written(line)
        assert behind * 8 <= MANY, "no more than an eighth of the places"
    assert set(states(bench.store).values()) == {State.COMPLETE}
    assert len(states(bench.store)) == 40
    for number in range(40):
        assert [one.epoch for one in bench.store.epochs("s", Kind.SEARCH, number)] == [1, 2]


def test_reports_are_taken_in_while_the_next_suggestion_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, TEXT), list[str]()
    driven(bench, AtOnce(MANY, log), monkeypatch, ready=False)
    assert log.index("written 0, 1") < log.index(f"starts {MANY}")
    assert set(states(bench.store).values()) == {State.COMPLETE}


def test_with_few_places_each_end_is_written_before_the_next_trial_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, TEXT), list[str]()
    slots = MANY - 1
    driven(bench, AtOnce(slots, log), monkeypatch)
    assert log[slots : slots + 6] == [
        "ended 0",
        "written 0",
        f"starts {slots}",
        "ended 1",
        "written 1",
        f"starts {slots + 1}",
    ]


def test_a_trial_that_starts_at_once_is_written_with_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, own, writes = Bench(tmp_path, TEXT), Database.writing, list[int]()

    def writing(self: Database, **fenced: bool) -> Any:
        writes.append(len(states(bench.store)))
        return own(self, **fenced)

    monkeypatch.setattr(Database, "writing", writing)
    driven(bench, AtOnce(MANY, []), monkeypatch)
    assert writes[:MANY] == list(range(MANY))


def test_ctrl_c_before_a_trial_starts_says_nothing_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, own = Bench(tmp_path, TEXT), Books.ends

    def ends(self: Books, trial: Any) -> Any:
        if trial.number == 3:
            raise KeyboardInterrupt
        return own(self, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Books, "ends", ends)
        with pytest.raises(KeyboardInterrupt):
            driven(bench, AtOnce(MANY, []), patch)
    assert list(states(bench.store)) == [0, 1, 2, 3]
    for number in range(4):
        assert bench.store.attempts.ends("s", Kind.SEARCH, number) == Ends(), number


def test_an_end_whose_writing_is_interrupted_is_written_before_the_search_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, own, calls = Bench(tmp_path, TEXT), Store.finish_trials, list[int]()

    def finish_trials(self: Store, study: str, finished: Sequence[Any]) -> Any:
        calls.append(len(finished))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return own(self, study, finished)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "finish_trials", finish_trials)
        with pytest.raises(KeyboardInterrupt):
            driven(bench, AtOnce(MANY, []), patch)
    assert calls == [2, 2]
    assert [n for n, state in states(bench.store).items() if state == State.COMPLETE] == [0, 1]


def test_what_was_reported_before_ctrl_c_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, TEXT), list[str]()
    # the driver has taken the ends of trials 0 and 1 then, and written neither
    engine = AtOnce(MANY, log, ctrl_c_at=7)
    with pytest.raises(KeyboardInterrupt):
        driven(bench, engine, monkeypatch)
    assert [line for line in log if line.startswith("written")] == ["written 0, 1"]
    assert [n for n, state in states(bench.store).items() if state == State.COMPLETE] == [0, 1]
    monkeypatch.undo()
    again = AtOnce(MANY, [])
    driven(bench, again, monkeypatch)
    assert sorted(job.number for job in again.submitted) == list(range(2, 40))
    assert set(states(bench.store).values()) == {State.COMPLETE}


def test_all_epochs_that_have_come_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, many = Bench(tmp_path, TEXT), list[int]()
    own = Store.add_epochs

    def add_epochs(self: Store, study: str, epochs: Sequence[Any]) -> None:
        many.append(len(epochs))
        own(self, study, epochs)

    monkeypatch.setattr(Store, "add_epochs", add_epochs)
    driven(bench, AtOnce(MANY, []), monkeypatch)
    assert sum(many) == 2 * 40
    assert len(many) < 40


def test_events_come_in_the_order_in_which_they_came_but_epochs_when_they_are_asked_for(
    tmp_path: Path,
) -> None:
    events: deque[tuple[Job, Event]] = deque()
    engine = SimpleNamespace(
        slots=MANY, next_event=lambda timeout: events.popleft() if events else None
    )
    arrivals = Arrivals(cast(Any, engine))
    one, two = jobs.job(tmp_path, 1), jobs.job(tmp_path, 2)
    first, second = EpochResult(1, {}, {}), EpochResult(2, {}, {})
    end = outcome(0.5, 1e6)
    events += [(one, first), (one, end), (two, first), (two, second), (two, end), (one, first)]
    arrivals.look()
    assert (arrivals.freed, arrivals.waiting, len(events)) == (2, True, 1)
    happened = arrivals.next(0)
    assert happened == [(one, first), (two, first), (two, second)]
    assert arrivals.next(0) == happened, "until they are handled"
    arrivals.handled(happened)
    assert arrivals.next(0) == arrivals.ends() == [(one, end), (two, end)]
    arrivals.handled(arrivals.next(0)[:1])
    assert (arrivals.ends(), arrivals.freed) == ([(two, end)], 1)
    arrivals.forget(two)
    assert (arrivals.freed, arrivals.waiting) == (0, False)
    assert arrivals.next(0) == [(one, first)]
    arrivals.handled([(one, end)])
    assert arrivals.waiting
    arrivals.handled(arrivals.next(0))
    assert arrivals.next(0) == []


def test_no_more_is_taken_than_a_few_events_a_place(tmp_path: Path) -> None:
    shown = jobs.job(tmp_path, 1), EpochResult(1, {}, {})
    arrivals = Arrivals(cast(Any, SimpleNamespace(slots=MANY, next_event=lambda timeout: shown)))
    arrivals.look()
    assert len(arrivals.epochs()) == MOST * MANY


def test_epochs_whose_writing_is_interrupted_are_written_with_the_ends_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, own, calls = Bench(tmp_path, TEXT), Store.add_epochs, list[int]()

    def add_epochs(self: Store, study: str, epochs: Sequence[Any]) -> None:
        calls.append(len(epochs))
        if len(calls) == 2:  # those of trials 0 and 1 but one, with their ends behind them
            raise KeyboardInterrupt
        own(self, study, epochs)

    monkeypatch.setattr(Store, "add_epochs", add_epochs)
    with pytest.raises(KeyboardInterrupt):
        driven(bench, AtOnce(MANY, []), monkeypatch)
    ended = [n for n, state in states(bench.store).items() if state == State.COMPLETE]
    assert ended == [0, 1]
    for number in ended:
        assert [one.epoch for one in bench.store.epochs("s", Kind.SEARCH, number)] == [1, 2]


def test_after_ctrl_c_nothing_is_started_for_a_training_that_had_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, TEXT), list[str]()
    engine = AtOnce(MANY, log, ctrl_c_at=3)
    submit = engine.submit

    def crashing(job: Job) -> None:
        submit(job)
        if job.number == 0:
            engine.events.clear()
            crash = Failure("its process ended", None, "", crashed=True)
            engine.events += [(job, EpochResult(1, {}, {})), (job, crash)]

    monkeypatch.setattr(engine, "submit", crashing)
    with pytest.raises(KeyboardInterrupt):
        driven(bench, engine, monkeypatch)
    assert log == [f"starts {number}" for number in range(MANY)]
    assert states(bench.store)[0] == State.RUNNING
    assert [one.epoch for one in bench.store.epochs("s", Kind.SEARCH, 0)] == [1]


def test_a_training_that_is_stopped_at_a_rung_may_have_died_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, log = Bench(tmp_path, STOPPING.replace("trials: 8", "trials: 40")), list[str]()
    engine = AtOnce(MANY, log)
    answers = dict[int, bool]()

    def submit(job: Job) -> None:
        engine.submitted.append(job)
        engine.events.append((job, rung(0.9 if job.number else 0.1, 1e6 * (1 + job.number))))
        if job.number:  # its process dies while it waits for what is decided
            engine.events.append((job, Failure("its process ended", 2, "", crashed=True)))

    def answer(job: Job, go_on: bool) -> None:
        answers[job.number] = go_on
        if go_on and not job.number:
            engine.events.append((job, outcome(0.1, 1e6)))

    monkeypatch.setattr(engine, "submit", submit)
    monkeypatch.setattr(engine, "answer", answer)
    stopping = driver(bench.spec, bench.store, bench.storage, engine, slots=MANY)
    monkeypatch.setattr(stopping.plan, "report", lambda trial, *shown: trial.number == 0)
    stopping.run()
    found = states(bench.store)
    assert found.pop(0) == State.COMPLETE
    assert set(found.values()) == {State.STOPPED}
    assert len(engine.submitted) == 40, "none was started again"


class Killed(BaseException):
    """The process is gone: nothing is written any more."""


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_where_a_driver_of_many_places_is_killed_at_any_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, text = Database.writing, TEXT.replace("trials: 40", "trials: 24")
    for at in range(1, 46, 3):
        bench, left = Bench(tmp_path / str(at), text), [at]

        def writing(self: Database, left: list[int] = left, **fenced: bool) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return own(self, **fenced)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "writing", writing)
            with pytest.raises(Killed):
                driven(bench, AtOnce(MANY, []), patch)
        whole = {n for n, state in states(bench.store).items() if state == State.COMPLETE}
        again = AtOnce(MANY, [])
        driven(bench, again, monkeypatch)
        trained = sorted(job.number for job in again.submitted)
        assert trained == sorted(set(range(24)) - whole), at
        assert set(states(bench.store).values()) == {State.COMPLETE}, at
        points = bench.store.points("s", kind=Kind.SEARCH)
        assert sorted(p.trial for p in points) == list(range(24)), at
        for number in range(24):
            shown = bench.store.epochs("s", Kind.SEARCH, number)
            assert [one.epoch for one in shown] == [1, 2], (at, number)
        (told,) = bench.storage.get_all_studies()
        ended = [trial.state.name for trial in bench.storage.get_all_trials(told._study_id)]
        assert ended == ["COMPLETE"] * 24, at
