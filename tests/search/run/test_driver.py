"""Driving a study: budgets, resuming, failures, duplicates; training replaced by events made by hand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from search.objectives import Reference
from search.run.books import Books
from search.run.driver import Driver
from search.run.giving_up import LOSSES, HopelessError, check_goes_on
from search.run.job import Event, Failure, Job, Notice, Outcome, Rung
from search.run.optuna_mirror import OptunaMirror, mirror_for
from search.run.progress import Progress
from search.run.take_up import take_up
from search.run.time_spent import TimeSpent
from search.schedule.scheduler_for import scheduler_for
from search.schedule.warm_start import all_baselines, recommended
from search.spec import StudySpec, narrowed_spaces, parse_study
from spaces.contract.task import Task
from storage.records import Kind
from storage.store import Store
from tests.points import operating_point
from trainers.fit import EpochResult

# each trial by itself: what most tests are about
ALONE = "warm_start: false\nearly_stopping: false\n"
REFERENCE = Reference(accuracy=0.1, macs=1e7)
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 4, epochs: 3}\n" + ALONE
TASK = Task(channels=1, height=8, width=8, classes=10)


def outcome(accuracy: float = 0.8, macs: float = 1e6) -> Outcome:
    return Outcome([operating_point(accuracy, macs)], 10, 100, {"device": "cpu"}, 0.5)


@dataclass
class Scripted:
    """An engine whose trials do what `script` says for their number and attempt."""

    script: Callable[[Job, int], list[Event | BaseException]]
    slots: int = 1
    submitted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)  # what each of them is told of the tables
    waiting: deque[tuple[Job, Iterator[Event | BaseException]]] = field(default_factory=deque)
    # (trial, epoch, whether it goes on)
    answers: list[tuple[int, int, bool]] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        attempt = self.submitted.count(job.number)
        self.submitted.append(job.number)
        self.reached.append(job.reached)
        self.waiting.append((job, iter(self.script(job, attempt))))

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        job, events = self.waiting[0]
        event = next(events)
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, Rung):
            self.asked = event.epoch
        elif not isinstance(event, EpochResult | Notice):
            self.waiting.popleft()
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        self.answers.append((job.number, self.asked, go_on))
        if not go_on:
            self.waiting.popleft()

    def close(self) -> None:
        self.waiting.clear()


class Follower:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def trial_finished(self, kind: str, number: int) -> None:
        self.told.append((kind, number))

    def front_changed(self) -> None: ...


def driver(
    spec: StudySpec,
    store: Store,
    storage: optuna.storages.BaseStorage,
    engine: Any,
    *,
    reference: Reference = REFERENCE,
    checkpoints: str = "none",
    with_baselines: bool = False,
    clock: Callable[[], float] = time.monotonic,
    slots: int = 1,
    **settings: Any,
) -> Driver:
    """A driver of the study as its tables have it, taken up and ready to run."""
    plan = scheduler_for(spec, TASK, reference, slots=slots)
    books = Books(store, spec.study, spec.costs, mirror_for(storage, store, spec))
    take_up(plan, books)
    plan.add_baselines(
        all_baselines(narrowed_spaces(spec), spec.budget.epochs) if with_baselines else ()
    )
    return Driver(
        spec=spec,
        plan=plan,
        books=books,
        time=TimeSpent(store, spec.study, spec.budget.hours, clock),
        engine=engine,
        progress=Progress(Console(quiet=True), spec.study, spec.budget.trials, 1),
        checkpoints=checkpoints,
        **settings,
    )


class Bench:
    """A study in a database file that drivers can be run over, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'db.sqlite'}"
        self.store = Store.open(self.url)
        self.follower = Follower()
        spec = parse_study(TEXT, "s.yml")
        self.store.add_study(
            "s", spec.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7}
        )

    def drive(
        self, script: Callable[[Job, int], list[Any]], text: str = TEXT, **settings: Any
    ) -> Scripted:
        spec = parse_study(text, "s.yml")
        engine = Scripted(script)
        storage = optuna.storages.RDBStorage(self.url)
        self.finished = driver(
            spec, self.store, storage, engine, follower=self.follower, **settings
        ).run()
        return engine

    def states(self) -> dict[int, str]:
        return {t.number: t.state for t in self.store.trials("s", kind="search")}

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="s", storage=self.url).get_trials()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def epochs(n: int, start: int = 1) -> list[EpochResult]:
    metrics = {"val/accuracy": 0.5, "val/macs": 1.0}
    return [EpochResult(e, metrics, {}) for e in range(start, start + n)]


def good(job: Job, attempt: int) -> list[Any]:
    return [*epochs(3), outcome(0.5 + job.number / 10, 1e6 * (job.number + 1))]


def test_a_study_runs_its_trials_and_tells_optuna_one_pair_each(bench: Bench) -> None:
    bench.drive(good)
    assert bench.finished
    assert bench.states() == dict.fromkeys(range(4), "complete")
    trials = bench.optuna_trials()
    assert [t.values for t in trials] == [
        [pytest.approx(0.5 + n / 10), 1e6 * (n + 1)] for n in range(4)
    ]
    assert bench.follower.told == [("search", n) for n in range(4)]
    assert len(bench.store.epochs("s", "search", 2)) == 3


def test_trials_is_a_total_so_running_again_does_nothing_and_raising_it_extends(
    bench: Bench,
) -> None:
    bench.drive(good)
    assert bench.drive(good).submitted == []
    assert bench.drive(good, TEXT.replace("trials: 4", "trials: 6")).submitted == [4, 5]


def test_an_interrupted_study_goes_on_with_the_trial_that_was_under_way(bench: Bench) -> None:
    def interrupted(job: Job, attempt: int) -> list[Any]:
        return [*epochs(1), KeyboardInterrupt()] if job.number == 1 else good(job, attempt)

    with pytest.raises(KeyboardInterrupt):
        bench.drive(interrupted)
    assert bench.states() == {0: "complete", 1: "running"}
    before = bench.store.trial("s", "search", 1)
    engine = bench.drive(good)
    assert (engine.submitted, engine.reached) == ([1, 2, 3], [1, 0, 0])
    after = bench.store.trial("s", "search", 1)
    assert (after.params, after.seed) == (before.params, before.seed)


def test_hours_that_end_while_a_training_waits_for_a_place_end_the_study(bench: Bench) -> None:
    now, allowed = [0.0], [2]

    def waits(job: Job) -> Job:
        """As where no place is found to measure a number format in."""
        allowed[0] -= 1
        if allowed[0] < 0:
            now[0] += 7200
            check_goes_on(ours=True, in_time=now[0] < 3600)
        return job

    text = TEXT.replace("epochs: 3", "epochs: 3, hours: 1")
    bench.drive(good, text, clock=lambda: now[0], formatted=waits)
    assert not bench.finished
    assert list(bench.states().values()).count("complete") == 2
    assert bench.store.attempts.ends("s", Kind.SEARCH, 2).lost == 0
    with pytest.raises(HopelessError, match="another process has taken this study over"):
        check_goes_on(ours=False, in_time=False)


def test_an_engine_that_does_not_close_speaks_against_no_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Scripted) -> None:
        raise OSError("the cluster is gone")

    closed = list[bool]()
    monkeypatch.setattr(Scripted, "close", lost)
    monkeypatch.setattr(Books, "close", lambda self: closed.append(True))
    for _ in range(LOSSES):
        with pytest.raises(OSError, match="the cluster is gone"):
            bench.drive(lambda job, attempt: [KeyboardInterrupt()])
    assert bench.store.attempts.ends("s", Kind.SEARCH, 0).lost == 0
    assert closed == [True] * LOSSES


def test_a_resumed_study_asks_what_an_uninterrupted_one_would(bench: Bench, tmp_path: Path) -> None:
    def interrupted(job: Job, attempt: int) -> list[Any]:
        return [KeyboardInterrupt()] if job.number == 2 else good(job, attempt)

    with pytest.raises(KeyboardInterrupt):
        bench.drive(interrupted)
    bench.drive(good)
    (tmp_path / "other").mkdir()
    whole = Bench(tmp_path / "other")
    whole.drive(good)
    ours = [t.params for t in bench.store.trials("s", kind="search")]
    assert ours == [t.params for t in whole.store.trials("s", kind="search")]
    assert len({str(p) for p in ours}) == 4


def test_a_trial_stored_but_not_told_is_told_on_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OptunaMirror, "tell", lost)
        with pytest.raises(KeyboardInterrupt):
            bench.drive(good)
    assert bench.states() == {0: "complete"}
    bench.drive(good)
    assert bench.optuna_trials()[0].values == [0.5, 1e6]
    assert len(bench.optuna_trials()) == 4


def test_a_trial_asked_but_not_stored_leaves_no_trace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_trial", lost)
        with pytest.raises(KeyboardInterrupt):
            bench.drive(good)
    bench.drive(good)
    assert [t.state.name for t in bench.optuna_trials()] == ["COMPLETE"] * 4


def test_what_optunas_database_missed_is_made_up_for_from_our_tables(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(OptunaMirror, "_write", lambda self, action: None)
        bench.drive(good)
    assert bench.optuna_trials() == []
    bench.drive(good, TEXT.replace("trials: 4", "trials: 5"))
    trials = bench.optuna_trials()
    assert [t.values for t in trials] == [
        [pytest.approx(0.5 + n / 10), 1e6 * (n + 1)] for n in range(5)
    ]
    stored = bench.store.trials("s", kind="search")
    for trial, record in zip(trials, stored, strict=True):
        assert {
            k.removeprefix("gated_resnet."): v for k, v in trial.params.items()
        }.items() <= record.params.items()
        assert trial.params


def test_another_process_that_took_over_ends_this_one(bench: Bench) -> None:
    with pytest.raises(HopelessError, match="another process has taken this study over"):
        bench.drive(good, ours=lambda: False)


def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on(bench: Bench) -> None:
    def failing(job: Job, attempt: int) -> list[Any]:
        return (
            [*epochs(1), Failure("epoch 2: loss is not finite", 2, "trace")]
            if job.number == 1
            else good(job, attempt)
        )

    bench.drive(failing)
    assert bench.states()[1] == "failed"
    (failure,) = bench.store.failures("s")
    assert (failure.trial, failure.epoch, failure.error) == (1, 2, "epoch 2: loss is not finite")
    assert bench.optuna_trials()[1].state.name == "FAIL"


def test_a_trial_whose_worker_died_is_submitted_again_but_not_for_ever(bench: Bench) -> None:
    def crashing(job: Job, attempt: int) -> list[Any]:
        if job.number == 0 and attempt < 2:
            return [*epochs(1), Failure("its worker process ended", None, "", crashed=True)]
        if job.number == 1:
            return [Failure("its worker process ended", None, "", crashed=True)]
        return good(job, attempt)

    engine = bench.drive(crashing)
    assert engine.submitted.count(0) == 3
    assert engine.submitted.count(1) == 3
    assert bench.states() == {0: "complete", 1: "failed", 2: "complete", 3: "complete"}
    error = bench.store.trial("s", "search", 1).error
    assert error == "its worker process ended, 3 times without a new epoch"


def test_a_study_in_which_everything_fails_stops_with_the_reason(bench: Bench) -> None:
    with pytest.raises(
        HopelessError, match="5 trials in a row failed, the last with: no such file; put that right"
    ):
        bench.drive(
            lambda job, attempt: [Failure("no such file", 1, "")],
            TEXT.replace("trials: 4", "trials: 9"),
        )


def test_a_repeated_candidate_is_answered_from_the_tables(bench: Bench) -> None:
    space = "space: {gated_resnet: {" + ", ".join(
        f"{name}: {value}"
        for name, value in {
            "backbone": "resnet8", "granularity": "layer", "gate": "independent", "loss": "none", "lr": 0.1,
            "weight_decay": 0.001,
        }.items()
    ) + "}}\n"  # fmt: skip
    engine = bench.drive(good, TEXT + space)
    assert engine.submitted == [0]
    assert bench.states() == dict.fromkeys(range(4), "complete")
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, 0, 0, 0]
    assert {tuple(t.values) for t in bench.optuna_trials()} == {(0.5, 1e6)}


def test_hours_end_a_study_with_trials_left(bench: Bench) -> None:
    clock = iter(range(0, 100_000, 1800))
    text = TEXT.replace("epochs: 3", "epochs: 3, hours: 1.2")
    bench.drive(good, text, clock=lambda: float(next(clock)))
    assert not bench.finished
    ended = bench.states()
    assert 0 < len(ended) < 4
    bench.drive(good, text.replace("hours: 1.2", "hours: 9"), clock=lambda: 0.0)
    assert bench.finished, "with more hours it goes on"
    assert bench.states() == dict.fromkeys(range(4), "complete")


def test_baselines_of_every_size_are_trained_once(bench: Bench) -> None:
    text = TEXT + "space: {gated_resnet: {backbone: [resnet8, resnet14]}}\n"
    bench.drive(good, text, with_baselines=True)
    static = bench.store.trials("s", kind="static")
    assert {(t.params["backbone"], t.params["width"]) for t in static} == {
        (backbone, width)
        for backbone in ("resnet8", "resnet14")
        for width in (0.25, 0.5, 0.75, 1.0)
    }
    assert all(t.params["gated"] is False for t in static)
    assert bench.drive(good, text, with_baselines=True).submitted == []


def test_baselines_have_no_gates() -> None:
    nets = all_baselines(narrowed_spaces(parse_study(TEXT, "s.yml")), 3)
    assert all(not one.build(TASK, 0).gates for one in nets[:3])


def test_a_combination_that_the_family_refuses_is_a_failed_trial_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    text = TEXT.replace("gated_resnet", "skip_vit").replace("trials: 4", "trials: 12")
    text += "space: {skip_vit: {dt_grad: [literal, st], loss: [per_batch, score_sq]}}\nsampler: random\n"
    spec = parse_study(text, "s.yml")
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    store.add_study(spec.study, spec.model_dump(mode="json"), text, {"accuracy": 0.1, "macs": 1e8})

    def opened() -> OptunaMirror:
        return mirror_for(optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'o.db'}"), store, spec)

    def drive() -> bool:
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'o.db'}")
        engine = Scripted(lambda job, attempt: [outcome()])
        return driver(
            spec, store, storage, engine, follower=Follower(), checkpoints=str(tmp_path)
        ).run()

    assert drive()
    trials = store.trials("s", kind="search")
    assert len(trials) == 12
    refused = [t for t in trials if t.state == "failed"]
    assert refused
    assert all(
        "literal oracles learn from their own scores only" in (t.error or "") for t in refused
    )
    assert all(
        t.params["dt_grad"] == "literal" and t.params["loss"] == "per_batch" for t in refused
    )
    assert drive(), "and it opens again"
    assert len(opened().study.get_trials()) == 12


def test_a_study_from_when_a_dimension_had_other_choices_is_refused_in_one_line(
    tmp_path: Path,
) -> None:
    def opened(text: str) -> OptunaMirror:
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'o.db'}")
        store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
        return mirror_for(storage, store, parse_study(text, "s.yml"))

    text = TEXT + "space: {gated_resnet: {loss: [per_batch, per_gate]}}\n"
    before = opened(text)
    before.add(
        "gated_resnet", recommended(narrowed_spaces(parse_study(text, "s.yml"))["gated_resnet"])
    )
    before.close()
    with pytest.raises(
        ValueError, match=r"was begun when gated_resnet\.loss had the choices per_batch, per_gate"
    ) as found:
        opened(TEXT)
    assert "\n" not in str(found.value)
