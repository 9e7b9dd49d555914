"""Driving a study with warm starts: baselines are trained once a size, and trials of that size wait for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.front.stored import study_front
from search.run.job import Failure, Job
from storage.checkpoints import Checkpoints
from tests.search.run.bench import (
    WARM,
    WARM_SAME,
    Bench,
    growing,
    outcome,
    rung,
    trained,
)
from trainers.fit import EpochResult


def test_a_baseline_is_trained_once_a_size_and_trials_of_that_size_start_from_it(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, WARM)
    bench.drive(lambda job, attempt: [outcome(0.5 / (job.number + 1), 1e6)])
    ready: dict[str, Job] = {}
    for job in bench.jobs:
        if job.kind == "static":
            path = str(Checkpoints(tmp_path).path(job.key))
            assert path not in ready, "a size was trained twice"
            assert (job.epochs, job.init_from, job.params["gated"]) == (9, None, False)
            ready[path] = job
        else:
            assert job.init_from in ready
            assert job.epochs == 3
            sizes = {name: ready[job.init_from].params[name] for name in ("backbone", "width")}
            assert sizes.items() <= job.params.items()
    assert [job.kind for job in bench.jobs][:2] == ["static", "search"]
    assert len({job.params["backbone"] for job in ready.values()}) == 2
    assert bench.states() == dict.fromkeys(range(8), "complete")
    bench.drive(growing)
    assert bench.store.trials("s", kind="static", state="running") == []


def test_trials_that_are_distilled_learn_from_the_baseline_of_their_size(tmp_path: Path) -> None:
    for length in (3, 9):  # from the baseline, and of full length from scratch, which needs it too
        text = WARM.replace("[resnet8, resnet14]", "[resnet8, resnet14], distill: 0.5")
        text = text.replace("warm_epochs: 3", f"warm_epochs: {length}")
        bench = Bench(tmp_path / str(length), text)
        bench.drive(lambda job, attempt: [outcome(0.5 / (job.number + 1), 1e6)])
        ready = []
        for job in bench.jobs:
            if job.kind == "static":
                assert (job.teacher, job.params["distill"]) == (None, 0.0)
                ready.append(str(Checkpoints(tmp_path / str(length)).path(job.key)))
            else:
                assert job.teacher in ready
                assert job.params["distill"] == 0.5


def test_trials_wait_for_their_baseline_while_others_train(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WARM.replace("[resnet8, resnet14]", "resnet8, width: 1.0"))
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))], slots=3)
    assert [(job.kind, job.number) for job in bench.jobs] == [
        ("static", 0),
        *(("search", n) for n in range(8)),
    ]


def test_a_study_that_was_killed_while_a_baseline_trained_goes_on_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WARM)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(lambda job, attempt: [KeyboardInterrupt()])
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))])
    assert [(job.kind, job.number) for job in bench.jobs[:3]] == [
        ("static", 0),
        ("static", 0),
        ("search", 0),
    ]
    assert bench.states() == dict.fromkeys(range(8), "complete")


@pytest.mark.parametrize("slots", [1, 4])
def test_a_baseline_that_fails_fails_those_that_wait_and_is_tried_again(
    tmp_path: Path, slots: int
) -> None:
    def failing(job: Job, attempt: int) -> list[Any]:
        if (job.kind, job.number) == ("static", 0):
            return [Failure("no such file", 1, "")]
        return [outcome(0.5, 1e6)]

    bench = Bench(tmp_path, WARM_SAME)
    bench.drive(failing, slots=slots)
    states = bench.states()
    failed = [number for number, state in states.items() if state == "failed"]
    assert 0 in failed
    assert len(states) == 8
    assert set(states.values()) <= {"failed", "complete"}
    for number in failed:
        record = bench.store.trial("s", "search", number)
        assert record.error == "the baseline that it was to start from failed: no such file"
    assert all(bench.optuna_trials()[number].state.name == "FAIL" for number in failed)
    if slots == 1:
        assert failed == [0]
        assert [(job.kind, job.number) for job in bench.jobs] == [
            ("static", 0),
            ("static", 1),
            ("search", 1),
        ]


# trials of 6, a rung after 2
RIVALS = WARM.replace("early_stopping: false\n", "").replace(
    "epochs: 9, warm_epochs: 3", "epochs: 18, warm_epochs: 6"
)


def beaten(job: Job, attempt: int) -> list[Any]:
    """The baselines are cheaper and better than all that their trials learn; at the rung nothing else is known."""
    if job.kind == "static":
        return [EpochResult(18, {"val/accuracy": 0.5, "val/macs": 1.0}, {}), outcome(0.1, 1e6)]
    return trained(job, rung(0.4, 5e6), outcome(0.2, 5e6 + 1e5 * job.number))


def test_a_baseline_that_no_trial_beats_is_on_the_front_and_stops_trials(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RIVALS)
    study = bench.drive(beaten)
    assert {p.kind for p in study.front.points} == {"static"}
    assert study.history.baselines[0].tolist() == [[pytest.approx(0.1), pytest.approx(0.1)]]
    stopped = [number for number, state in bench.states().items() if state == "stopped"]
    assert len(stopped) == 8 - 3, "once three have shown what is still learned after the rung"
    record = bench.store.study("s")
    front = study_front(bench.store, record)
    assert [p.training for p in front.members] == [("static", 0)]
    assert {p.kind for p in front.points} == {"search", "static"}
    assert {p.kind for p in front.baselines} == {"static"}
    assert front.volume == pytest.approx(0.9 * 0.9)


def test_a_study_that_goes_on_knows_its_baselines_still(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RIVALS)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(
            lambda job, attempt: [KeyboardInterrupt()] if job.number == 5 else beaten(job, attempt)
        )
    bench.drive(beaten)
    other = Bench(tmp_path / "other", RIVALS)
    other.drive(beaten)
    assert bench.decisions() == other.decisions()
    assert len(bench.scheduler.history.baselines) == 2, "one a size"


def test_trials_of_full_length_start_from_scratch_and_are_compared_among_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.schedule.training_length.PATIENCE", 2)
    for module in ("training_length", "growth_sampler", "optuna_sampler"):
        monkeypatch.setattr(f"search.schedule.{module}.STARTUP", 1)
    bench = Bench(tmp_path, RIVALS)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(
            lambda job, attempt: [KeyboardInterrupt()] if job.number == 6 else beaten(job, attempt)
        )
    bench.drive(beaten)
    jobs = {job.number: job for job in bench.jobs if job.kind == "search"}
    lengths = [jobs[number].epochs for number in range(8)]
    assert lengths == [6, 6, 6, 6, 18, 18, 18, 18], (
        "the fourth was asked while the third was trained"
    )
    assert all("plain-" in str(jobs[number].init_from) for number in range(4))
    assert all(jobs[number].init_from is None for number in range(4, 8))
    assert {job.kind for job in bench.jobs if job.epochs == 18 and job.init_from is None} == {
        "search",
        "static",
    }
    stopped = [number for number, state in bench.states().items() if state == "stopped"]
    assert stopped == [3, 7], "three of that length have to end first"
    other = Bench(tmp_path / "other", RIVALS)
    other.drive(beaten)
    assert bench.decisions() == other.decisions()
