"""Driving a study in which the same candidate is suggested again: it waits, and shares the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.run.job import Failure
from search.spec import parse_study
from tests.search.run.bench import (
    ALONE,
    SAME,
    STOPPING,
    Bench,
    growing,
    outcome,
)


def test_equal_candidates_of_a_running_trial_wait_for_it_and_share_its_result(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6)], slots=3)
    assert bench.started() == [0]
    assert bench.states() == dict.fromkeys(range(4), "complete")
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, 0, 0, 0]
    assert [t.values for t in bench.optuna_trials()] == [[pytest.approx(0.55), 1e6]] * 4


def test_when_a_trial_fails_the_first_equal_candidate_that_waited_is_trained(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    bench.drive(
        lambda job, _: [Failure("out of memory", 1, "") if job.number == 0 else outcome(0.5, 1e6)],
        slots=3,
    )
    assert bench.started() == [0, 1]
    assert bench.states() == {0: "failed", 1: "complete", 2: "complete", 3: "complete"}
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, None, 1, 1]


def test_equal_candidates_still_wait_after_an_interruption(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    with pytest.raises(KeyboardInterrupt):
        bench.drive(lambda job, attempt: [KeyboardInterrupt()], slots=3)
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6)], slots=3)
    assert bench.started() == [0, 0]
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, 0, 0, 0]


def test_a_study_opens_again_while_a_trial_that_others_repeat_goes_on(tmp_path: Path) -> None:
    """Trial 3 is stopped, 4 repeats it, then 3 goes on and the driver is killed: 4 keeps what it was answered."""
    bench = Bench(tmp_path, STOPPING.replace("trials: 8", "trials: 4"))
    bench.drive(growing)
    record = bench.store.trial("s", "search", 3)
    assert record.state == "stopped"
    bench.store.add_trial("s", "search", 4, record.family, record.params, 1, record.epochs)
    bench.store.finish_trial(
        "s", "search", 4, points=[], result=record.result, seconds=0.0, of_trial=3
    )
    bench.store.resume_trial("s", "search", 3)
    bench.spec = parse_study(STOPPING, "s.yml")
    study = bench.drive(growing)
    assert bench.states() == dict.fromkeys(range(8), "complete")
    assert study.history.trials[4].curve == pytest.approx(np.array([[0.5, 0.4]]))
    assert study.history.trials[3].curve == pytest.approx(np.array([[0.18, 0.6]]))
