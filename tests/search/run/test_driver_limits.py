"""Driving a study to its end: plateaus, limits, regions, and any number of objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.run.job import Job
from search.spec import parse_study
from tests.search.run.bench import (
    ALONE,
    BASE,
    STOPPING,
    Bench,
    interrupted,
    outcome,
    rung,
    trained,
)

FLAT = ALONE + "budget: {trials: 30, epochs: 3, plateau: {trials: 4, growth: 0.01}}\n"


def flat(job: Job, attempt: int) -> list[Any]:
    """Ten trainings of which each is better than the last, then nothing new."""
    return [outcome(0.8 - 0.05 * min(job.number, 9), 5e6)]


def test_a_study_ends_when_its_front_grows_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT)
    assert bench.drive(flat).front.plateau
    assert bench.complete
    assert len(bench.states()) == 14
    assert bench.drive(flat).front.plateau, "and stays ended"
    assert len(bench.states()) == 14


def test_a_plateau_is_seen_across_an_interruption(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(interrupted(flat, 12))
    assert bench.drive(flat).front.plateau
    assert len(bench.states()) == 14


def test_a_front_that_grows_is_no_plateau(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT.replace("trials: 30", "trials: 9"))
    assert not bench.drive(flat).front.plateau
    assert bench.complete


@pytest.mark.parametrize(
    "objectives", ["accuracy", "accuracy, macs", "accuracy, macs_p95, parameters"]
)
@pytest.mark.parametrize("sampler", ["growth", "tpe"])
def test_studies_of_one_to_three_objectives_run_to_their_end(
    tmp_path: Path, objectives: str, sampler: str
) -> None:
    text = STOPPING.replace("trials: 8", "trials: 12").replace(
        "sampler: random", f"sampler: {sampler}"
    )
    bench = Bench(tmp_path, text + f"objectives: [{objectives}]\n")

    def made(job: Job, attempt: int) -> list[Any]:
        loss, cost = (job.number * 7 % 12 + 1) / 14, ((job.number * 5 + 6) % 12 + 1) * 7e5
        return trained(
            job, rung(loss, cost), outcome(loss / 2, cost, parameters=2000 - 100 * job.number)
        )

    study = bench.drive(made)
    assert bench.complete
    assert set(bench.states().values()) <= {"complete", "stopped"}
    assert len(bench.states()) == 12
    size = len(objectives.split(", "))
    assert {len(t.values or ()) for t in bench.optuna_trials() if t.state.name == "COMPLETE"} == {
        size
    }
    assert (len(study.front.points) == 1) is (size == 1)
    again = bench.drive(made)
    assert [p.trial for p in again.front.points] == [p.trial for p in study.front.points]


def test_what_is_beyond_the_limits_fails_before_training(tmp_path: Path) -> None:
    text = BASE + "warm_start: false\nbudget: {trials: 10, epochs: 6}\nlimits: {macs: 1M}\n"
    bench = Bench(
        tmp_path, text + "space: {gated_resnet: {backbone: [resnet8, resnet14, resnet20]}}\n"
    )
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))])
    states = bench.states()
    sizes = {t.number: t.params["backbone"] for t in bench.store.trials("s", kind="search")}
    assert {sizes[number] for number, state in states.items() if state == "complete"} == {"resnet8"}
    assert {sizes[number] for number, state in states.items() if state == "failed"} == {
        "resnet14",
        "resnet20",
    }
    assert sorted(bench.started()) == [
        number for number, state in states.items() if state == "complete"
    ]
    errors = [failure.error for failure in bench.store.failures("s")]
    assert all(
        error.endswith("MACs with everything open, limits.macs allows 1.00 M") for error in errors
    )


def test_sampler_and_rungs_look_at_the_region_as_far_as_the_front_has_come(tmp_path: Path) -> None:
    text = STOPPING + "region: {max_macs: 4M, min_accuracy: 0.91}\n"
    bench = Bench(tmp_path, text.replace("trials: 8", "trials: 1"))
    study = bench.drive(lambda job, attempt: [outcome(0.5, 1e6)])
    assert study.history.corner == pytest.approx(np.array([0.5, 0.4]))
    bench.spec = parse_study(text.replace("trials: 8", "trials: 2"), "s.yml")
    study = bench.drive(lambda job, attempt: [outcome(0.05, 1e6)])
    assert study.history.corner == pytest.approx(np.array([0.1, 0.4]))
