"""Finalists: which are trained, how they resume, and what is reported; training replaced by events made by hand."""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from search.commands.finalists import show
from search.front.finalists import (
    LONGER,
    SEEDS,
    _interval,
    rank_trials,
    report,
    surely_better,
    welch_p,
)
from search.front.stored import study_front
from search.objectives import Reference
from search.run.books import Books
from search.run.driver import Driver
from search.run.giving_up import HopelessError
from search.run.job import Event, Failure, Job, Outcome
from search.run.jobs import job_of
from search.run.progress import Progress
from search.run.time_spent import TimeSpent
from search.schedule.finalist_plan import FinalistPlan
from search.schedule.warm_start import recommended
from search.spec import StudySpec, narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, OperatingPoint, StudyRecord
from storage.store import Store
from tests.points import operating_point
from tests.search.run.test_driver import driver
from trainers.fit import EpochResult

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 3, epochs: 12}\n"
REFERENCE = Reference(accuracy=0.1, macs=100.0)
Script = Callable[[Job, int], list[Event | BaseException]]


def points(*values: tuple[float, float]) -> list[OperatingPoint]:
    """Operating points from (accuracy, MACs)."""
    made = [
        operating_point(accuracy, macs, knobs={"tau": 0.5}, chosen=False)
        for accuracy, macs in values
    ]
    return [replace(made[0], chosen=True), *made[1:]]


def outcome(*values: tuple[float, float]) -> Outcome:
    return Outcome(points(*values), 10, 100, {"device": "cpu"}, 0.5)


class Engine:
    """Two jobs at once that do what `script` says for the job and its attempt; every job is remembered."""

    slots = 2
    has_room = True

    def __init__(self, script: Script) -> None:
        self.script = script
        self.jobs: list[Job] = []
        self._running: deque[tuple[Job, Iterator[Event | BaseException]]] = deque()

    def submit(self, job: Job) -> None:
        assert len(self._running) < self.slots
        self._running.append(
            (job, iter(self.script(job, sum(one.name == job.name for one in self.jobs))))
        )
        self.jobs.append(job)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        job, running = self._running[0]
        event = next(running)
        if isinstance(event, BaseException):
            raise event
        self._running.rotate(-1) if isinstance(event, EpochResult) else self._running.popleft()
        return job, event

    def answer(self, job: Job, go_on: bool) -> None:
        raise AssertionError("finalists are not stopped")

    def close(self) -> None:
        self._running.clear()


class Bench:
    """A study of three searched trials: 0 is a little on the front, 1 much, 2 not at all."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'd.db'}"
        self.spec: StudySpec = parse_study(TEXT, "s.yml")
        self.store = Store.open(self.url)
        self.store.add_study("s", self.spec.model_dump(mode="json"), TEXT, REFERENCE.as_dict())
        self.searched(0, (0.50, 10.0))
        self.searched(1, (0.80, 20.0), (0.90, 40.0))
        self.searched(2, (0.40, 60.0))

    def searched(self, number: int, *values: tuple[float, float]) -> None:
        chosen = recommended(narrowed_spaces(self.spec)["gated_resnet"]) | {
            "target": 0.1 + number / 10
        }
        params = dict(Candidate.of(family("gated_resnet"), chosen, 4).params)
        self.store.add_trial("s", "search", number, "gated_resnet", params, 70 + number, 4)
        self.store.finish_trial(
            "s", "search", number, points=points(*values), result={}, seconds=1.0
        )

    @property
    def record(self) -> StudyRecord:
        return self.store.study("s")

    def train(self, script: Script, count: int = 1, **settings: Any) -> Engine:
        engine = Engine(script)
        trials = rank_trials(self.store, self.record)[:count]
        Driver(
            spec=self.spec,
            plan=FinalistPlan(self.store, "s", trials),
            books=Books(self.store, "s", self.spec.costs),
            time=TimeSpent(self.store, "s"),
            engine=engine,
            progress=Progress(Console(quiet=True), "s", SEEDS * count, 1),
            checkpoints="none",
            counts=Kind.FINALIST,
            **settings,
        ).run()
        return engine

    def states(self) -> dict[int, str]:
        return {t.number: t.state for t in self.store.trials("s", kind="finalist")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def epoch(number: int) -> EpochResult:
    return EpochResult(number, {"val/accuracy": 0.5, "val/macs": 1.0}, {})


def good(job: Job, attempt: int) -> list[Any]:
    return [epoch(1), epoch(2), outcome((0.7, 20.0))]


def seeded(accuracies: dict[int, list[list[tuple[float, float]]]]) -> Script:
    """Trainings whose points are the next of those given for the trial that they repeat."""
    left = {0.1 + trial / 10: iter(own) for trial, own in accuracies.items()}
    return lambda job, attempt: [outcome(*next(left[job.params["target"]]))]


def test_those_whom_the_front_would_miss_most_come_first_and_who_is_not_on_it_never(
    bench: Bench,
) -> None:
    assert rank_trials(bench.store, bench.record) == [1, 0]


def test_a_finalist_is_its_trial_from_new_seeds_for_twice_the_epochs(bench: Bench) -> None:
    engine = bench.train(good)
    trial = bench.store.trial("s", "search", 1)
    assert trial is not None
    assert {(job.kind, job.epochs, job.params["target"]) for job in engine.jobs} == {
        ("finalist", LONGER * 4, 0.2)
    }
    assert len({trial.seed, *(job.seed for job in engine.jobs)}) == 1 + SEEDS
    stored = bench.store.trials("s", kind="finalist")
    assert [(t.number, t.state, t.result["finalist_of"]) for t in stored] == [
        (n, "complete", 1) for n in range(SEEDS)
    ]
    assert len(bench.store.epochs("s", "finalist", 0)) == 2


def test_a_finalists_job_has_a_checkpoint_of_its_own_and_starts_as_its_trial_did(
    bench: Bench,
) -> None:
    engine = bench.train(good)
    trial = bench.store.trial("s", "search", 1)
    assert trial is not None
    original = job_of(bench.spec, trial, "none")
    assert "plain-" in str(original.init_from)
    assert {job.init_from for job in engine.jobs} == {original.init_from}
    assert {job.key for job in engine.jobs} == {f"s/finalist-{n:04d}" for n in range(SEEDS)}


def test_what_is_complete_is_not_trained_again_and_what_was_under_way_is(bench: Bench) -> None:
    calls = itertools.count()

    def interrupted(job: Job, attempt: int) -> list[Any]:
        return [epoch(1), KeyboardInterrupt()] if next(calls) == 2 else good(job, attempt)

    with pytest.raises(KeyboardInterrupt):
        bench.train(interrupted)
    before = {t.number: t.seed for t in bench.store.trials("s", kind="finalist")}
    assert bench.states() == {0: "complete", 1: "complete", 2: "running"}
    assert [(job.number, job.seed) for job in bench.train(good).jobs] == [(2, before[2])]
    assert [job.number for job in bench.train(good, count=2).jobs] == [3, 4, 5], (
        "the next finalist's"
    )
    assert bench.train(good, count=2).jobs == []


def test_a_running_finalist_is_no_trial_of_the_search(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.train(lambda job, attempt: [KeyboardInterrupt()])
    assert "running" in bench.states().values()
    engine = Engine(good)
    storage = optuna.storages.RDBStorage(bench.url)
    assert driver(bench.spec, bench.store, storage, engine, reference=REFERENCE).run()
    assert engine.jobs == []


def test_a_worker_that_died_goes_on_and_a_failed_one_keeps_its_reason(bench: Bench) -> None:
    def script(job: Job, attempt: int) -> list[Any]:
        if job.number == 0 and attempt == 0:
            return [Failure("its worker process ended", None, "", crashed=True)]
        return [Failure("loss is not finite", 2, "")] if job.number == 1 else good(job, attempt)

    engine = bench.train(script)
    assert sorted(job.number for job in engine.jobs) == [0, 0, 1, 2]
    assert bench.states() == {0: "complete", 1: "failed", 2: "complete"}
    (failure,) = bench.store.failures("s")
    assert (failure.kind, failure.error) == ("finalist", "loss is not finite")
    assert [job.number for job in bench.train(good).jobs] == [1], "what failed is tried again"


def test_another_process_that_took_over_ends_this_one(bench: Bench) -> None:
    with pytest.raises(HopelessError, match="another process has taken this study over"):
        bench.train(good, ours=lambda: False)


def test_finalists_are_not_on_the_front(bench: Bench) -> None:
    before = study_front(bench.store, bench.record)
    bench.train(lambda job, attempt: [outcome((1.0, 1.0))])
    assert study_front(bench.store, bench.record) == before


def test_the_report_compares_within_the_cost_of_each_point(bench: Bench) -> None:
    bench.train(
        seeded(
            {
                1: [
                    [(0.70, 20.0), (0.95, 41.0)],
                    [(0.80, 15.0), (0.86, 40.0)],
                    [(0.75, 20.0), (0.74, 30.0)],
                ]
            }
        )
    )
    found = report(bench.store, bench.record)
    low, high = found["points"]
    assert low["costs"] == {"macs_mean": 20.0}
    assert low["searched"] == 0.80
    assert low["accuracies"] == (0.70, 0.80, 0.75)
    assert low["mean"] == pytest.approx(0.75)
    # t(0.975, 2 degrees)
    assert low["high"] - low["mean"] == pytest.approx(4.30265 * 0.05 / 3**0.5, rel=1e-5)
    assert high["accuracies"] == (0.70, 0.86, 0.75), "the one of 0.95 costs more"
    bias = found["selection_bias"]
    assert bias["mean"] == pytest.approx((0.05 + 0.13) / 2)
    assert (bias["points"], bias["finalists"], bias["left_out"]) == (2, 1, 0)


def test_a_point_for_which_a_seed_has_no_answer_so_cheap_is_left_out_of_the_bias(
    bench: Bench,
) -> None:
    bench.train(seeded({1: [[(0.70, 20.0)], [(0.80, 20.0)], [(0.75, 20.1)]]}))
    found = report(bench.store, bench.record)
    assert found["points"][0]["accuracies"] == (0.70, 0.80)
    assert found["points"][0]["seeds"] == 3
    assert found["selection_bias"] == {
        "mean": pytest.approx(0.15), "points": 1, "finalists": 1, "left_out": 1,
    }  # fmt: skip


def test_a_finalist_is_dominated_by_one_that_is_significantly_better_at_no_more_cost(
    bench: Bench,
) -> None:
    bench.train(
        seeded({1: [[(0.60, 9.0), (0.9, 40.0)], [(0.61, 10.0)], [(0.62, 10.0)]],
                0: [[(0.50, 10.0)], [(0.51, 10.0)], [(0.49, 10.0)]]}),
        count=2,
    )  # fmt: skip
    cheap, *own = report(bench.store, bench.record)["points"]
    assert (cheap["trial"], cheap["dominated_by"]) == (0, 1)
    assert [row["dominated_by"] for row in own] == [None, None]


def test_the_table_says_what_was_left_out_and_that_the_bias_is_too_small(bench: Bench) -> None:
    bench.train(seeded({1: [[(0.70, 20.0)], [(0.80, 20.0)], [(0.75, 20.1)]]}))
    console = Console(width=140, file=io.StringIO())
    show(console, report(bench.store, bench.record))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "2 of 3" in output
    assert "+15.00 points of accuracy (n = 1 points of 1 finalists; 1 left out" in output
    assert "Too small: finalists had 2 times the epochs" in output


def test_without_finalists_the_report_says_how_to_get_some(bench: Bench) -> None:
    console = Console(width=140, file=io.StringIO())
    show(console, report(bench.store, bench.record))
    assert isinstance(console.file, io.StringIO)
    assert "--finalists 3" in console.file.getvalue()


@pytest.mark.parametrize(
    ("ours", "theirs", "sure"),
    [
        ((0.60, 0.61, 0.62), (0.50, 0.51, 0.49), True),
        ((0.50, 0.51, 0.49), (0.60, 0.61, 0.62), False),
        (
            (0.52, 0.53, 0.50),
            (0.50, 0.51, 0.49),
            False,
        ),  # t = 1.58, 3.3 degrees of freedom, p = 0.10
        ((0.60, 0.60, 0.60), (0.50, 0.50, 0.50), True),
        ((0.50, 0.50, 0.50), (0.50, 0.50, 0.50), False),
        ((0.90,), (0.10, 0.11, 0.12), False),
    ],
)
def test_better_is_said_only_when_the_difference_is_significant(
    ours: tuple[float, ...], theirs: tuple[float, ...], sure: bool
) -> None:
    assert surely_better(ours, theirs) is sure


def test_the_p_of_two_means_is_that_of_scipy() -> None:
    import numpy as np
    from scipy import stats

    draw = np.random.default_rng(0)
    for _ in range(20):
        ours, theirs = draw.normal(size=draw.integers(2, 6)), draw.normal(size=3)
        expected = stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
        assert welch_p(list(ours), list(theirs)) == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_a_mean_has_its_level() -> None:
    import numpy as np

    draws = np.random.default_rng(0).normal(0.8, 0.02, (4000, 3))
    holds = np.mean([low <= 0.8 <= high for low, high in map(_interval, draws)])
    assert holds == pytest.approx(0.95, abs=0.01)
