"""Which keys of `run` go with which engine; `--engine` in place of the file's."""

from __future__ import annotations

import pytest

from search.engine_keys import on_engine
from search.run.jobs import threads_for
from search.spec import StudySpec, parse_study, stored_spec
from search.study_parts import Run

STUDY = "study: s\ndata: digits\nfamilies: [gated_resnet]\nrun: {%s}\n"
RAY = "engine: ray, address: 'head:6379', gpus_per_trial: 0.5, cpus_per_trial: 4, max_trials: 8"


def study(run: str) -> StudySpec:
    return parse_study(STUDY % run, "s.yml")


def test_a_study_on_ray_says_what_a_trial_takes() -> None:
    run = study(RAY).run
    assert run.uses_ray
    assert (run.gpus_per_trial, run.gpus) == (0.5, 1), "half a GPU is one process"
    assert (run.cpus_per_trial, run.max_trials, run.address) == (4, 8, "head:6379")
    assert stored_spec(study(RAY).model_dump(mode="json")).run == run


def test_whole_gpus_stay_whole_numbers() -> None:
    assert repr(study("gpus_per_trial: 2").run.gpus_per_trial) == "2"
    assert repr(study("gpus_per_trial: 2.0").run.gpus_per_trial) == "2"


@pytest.mark.parametrize("given", ["0", "1.5", "65", "true", "-0.5", "two"])
def test_other_numbers_of_gpus_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"gpus_per_trial: .*neither a whole number from 1 to 64"):
        study(f"gpus_per_trial: {given}")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("gpus_per_trial: 0.5", r"run\.gpus_per_trial: 0\.5, a share of a GPU, needs engine: ray"),
        ("max_trials: 8", r"run\.max_trials: needs engine: ray"),
        ("cpus_per_trial: 2", r"run\.cpus_per_trial: needs engine: ray"),
        ("address: local", r"run\.address: needs engine: ray"),
        (
            "engine: ray, workers: 2",
            r"run\.workers: is not read with engine: ray; write max_trials",
        ),
        (
            "engine: ray, address: 'ray://head:10001'",
            r"run\.address: ray://head:10001 is Ray's proxy",
        ),
        (
            "engine: ray, address: 'http://head:8265'",
            r"run\.address: http://head:8265 is Ray's dashboard",
        ),
        ("engine: ray, gpus_per_trial: 0.5, device: cpu", r"0\.5 is not read with device: cpu"),
    ],
)
def test_a_key_that_the_engine_would_not_read_is_refused(run: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        study(run)


def test_the_flag_takes_the_place_of_the_files_engine() -> None:
    there = on_engine(study("workers: 4, threads: 2"), "ray", None).run
    assert (there.engine, there.workers, there.threads) == ("ray", 1, 2)
    here = on_engine(study("engine: ray, cpus_per_trial: 4, max_trials: 8"), "local", 3).run
    assert here == Run()
    assert on_engine(study(RAY), None, None) == study(RAY)


def test_the_flag_cannot_be_given_with_what_its_engine_does_not_read() -> None:
    with pytest.raises(ValueError, match="--workers: is not read with engine: ray"):
        on_engine(study("workers: 1"), "ray", 4)
    with pytest.raises(ValueError, match=r"--engine local: run\.gpus_per_trial: 0\.5"):
        on_engine(study(RAY), "local", None)


@pytest.mark.parametrize(
    ("keys", "slots", "expected"),
    [
        ("workers: 1", 1, None),  # torch's number
        ("workers: 4", 4, 4),
        ("workers: 2, gpus_per_trial: 2", 2, 4),
        ("workers: 64", 64, 1),
        (RAY, 8, 4),
    ],
)
def test_trainings_at_once_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, keys: str, slots: int, expected: int | None
) -> None:
    monkeypatch.setattr("search.run.jobs.cores", lambda: 16)
    assert threads_for(study(keys).run, slots) == expected
