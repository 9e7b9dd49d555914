"""Driving a study with early stopping: who is stopped, who goes on, and that a kill at any moment changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.run.jobs import job_of
from storage.store import Store
from tests.search.run.bench import (
    STOPPING,
    Bench,
    growing,
    interrupted,
)


def test_a_trial_that_cannot_extend_the_front_is_stopped_and_its_points_count(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, STOPPING.replace("trials: 8", "trials: 4"))
    study = bench.drive(growing)
    assert bench.complete
    assert bench.answers == [(0, 2, True), (1, 2, True), (2, 2, True), (3, 2, False)]
    assert bench.states() == {0: "complete", 1: "complete", 2: "complete", 3: "stopped"}
    assert [(p.trial, p.macs_mean) for p in study.front.points] == [(3, 4e6), (0, 5e6)]
    stopped = bench.optuna_trials()[3]
    assert stopped.state.name == "PRUNED"
    assert stopped.user_attrs["stopped"] == {
        "accuracy": pytest.approx(0.55),
        "macs": 4e6,
        "epoch": 2,
    }
    record = bench.store.trial("s", "search", 3)
    assert job_of(bench.spec, record, "none").trained == 2
    assert bench.optuna_trials()[0].values == [pytest.approx(0.82), 5e6]


def test_a_promising_trial_is_resumed_before_a_new_one_is_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING)
    study = bench.drive(growing)
    assert bench.started() == [0, 1, 2, 3, 4, 3, 5, 6, 7], (
        "once the fourth shows how much is learned after the rung"
    )
    first, second = [job for job in bench.jobs if job.number == 3]
    assert (first.rungs, second.rungs) == ((2,), ())
    assert second.key == first.key
    assert second.trained is None
    assert bench.states() == dict.fromkeys(range(8), "complete")
    assert bench.optuna_trials()[3].values == [pytest.approx(1 - 0.9 * 0.18), 6e6]
    assert (3, 4e6) not in [(p.trial, p.macs_mean) for p in study.front.points], (
        "what it was at the rung is gone"
    )
    assert (3, 6e6) in [(p.trial, p.macs_mean) for p in study.front.points]


def test_without_early_stopping_no_trial_has_rungs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING + "early_stopping: false\n")
    bench.drive(growing)
    assert bench.started() == list(range(8))
    assert {job.rungs for job in bench.jobs} == {()}


def test_a_resumed_trial_is_judged_at_the_rungs_that_are_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING.replace("epochs: 6", "epochs: 18"))  # rungs 2 and 6
    bench.drive(growing)
    assert [job.rungs for job in bench.jobs if job.number == 3] == [(2, 6), (6,)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("whole"), STOPPING)
    bench.drive(growing)
    return bench


@pytest.mark.slow
def test_a_driver_that_is_killed_at_any_event_decides_as_an_uninterrupted_one(
    tmp_path: Path, whole: Bench
) -> None:
    # a trial has four events, trial 3 is stopped after two and goes on for three
    for at in range(0, 33, 3):
        bench = Bench(tmp_path / str(at), STOPPING)
        with pytest.raises(KeyboardInterrupt):
            bench.drive(interrupted(growing, at))
        bench.drive(growing)
        assert bench.decisions() == whole.decisions(), at
        # a trial that goes on again, killed before its next epoch, shows its rung again
        assert set(whole.answers) <= set(bench.answers) <= {*whole.answers, (3, 2, True)}, at


@pytest.mark.slow
def test_suggestions_that_were_found_together_are_made_also_after_an_interruption(
    tmp_path: Path,
) -> None:
    text = STOPPING.replace("sampler: random", "sampler: growth").replace("trials: 8", "trials: 13")
    whole = Bench(tmp_path / "whole", text)
    whole.drive(growing, planned=16)
    for at, asked in ((34, 9), (40, 10)):  # four are found together, with trial 8
        killed = Bench(tmp_path / str(at), text)
        with pytest.raises(KeyboardInterrupt):
            killed.drive(interrupted(growing, at), planned=16)
        assert len(killed.states()) == asked
        killed.drive(growing, planned=16)
        assert killed.decisions() == whole.decisions(), at


WRITES = ("add_trial", "finish_trials", "resume_trial")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("done", [False, True])
def test_a_driver_that_is_killed_at_any_write_decides_as_an_uninterrupted_one(
    tmp_path: Path, whole: Bench, name: str, done: bool
) -> None:
    real = getattr(Store, name)
    for at in (0, 3, 4) if name != "resume_trial" else (0,):
        bench, left = Bench(tmp_path / str(at), STOPPING), [at]

        def killed(self: Store, *given: Any, left: list[int] = left, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == -1 and not done:
                raise KeyboardInterrupt
            answer = real(self, *given, **named)
            if left[0] == -1:
                raise KeyboardInterrupt
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, name, killed)
            with pytest.raises(KeyboardInterrupt):
                bench.drive(growing)
        bench.drive(growing)
        assert bench.decisions() == whole.decisions(), at
