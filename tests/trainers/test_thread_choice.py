"""The fewest threads that are about as fast as any number; and how many cores there are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import trainers.thread_choice as module
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.cores import cores, cores_alone
from trainers.execution import Execution
from trainers.latency import torch_threads
from trainers.thread_choice import counts, fewest, measured_threads

RECIPE = Recipe(batch=8)


@pytest.fixture
def net() -> DynamicNet:
    values = {"backbone": "resnet8", "width": 0.25}
    return Candidate.of(family("gated_resnet"), values, 1).build(
        Task(channels=1, height=8, width=8, classes=3), 0
    )


def chosen(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]
) -> tuple[int, list[int]]:
    """What is chosen of at most 8 threads where steps take so long, and the numbers that were tried, in order."""
    tried: list[int] = []

    def step(*_: object) -> float:
        tried.append(torch.get_num_threads())
        return seconds[tried[-1]]

    monkeypatch.setattr(module, "step_seconds", step)
    with torch_threads(3):
        found = measured_threads(net, RECIPE, Execution(), 8)
        assert torch.get_num_threads() == 3, "as before"
    return found, list(dict.fromkeys(tried))


def test_numbers_of_threads_are_the_most_and_powers_of_two() -> None:
    assert counts(1) == [1]
    assert counts(6) == [6, 4, 2, 1]
    assert counts(8) == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({4: 1.0, 2: 2.0, 1: 4.0}, 4),
        ({4: 1.0, 2: 0.9, 1: 1.0}, 2),
        ({4: 1.0, 2: 1.04, 1: 1.2}, 2),
        ({4: 3.0, 2: 2.0, 1: 1.0}, 1),
    ],
)
def test_the_fewest_threads_that_are_about_as_fast_as_the_fastest(
    seconds: dict[int, float], expected: int
) -> None:
    assert fewest(seconds) == expected


def test_a_small_network_is_tried_down_to_one_thread(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(net, monkeypatch, {8: 3.0, 4: 2.0, 2: 1.0, 1: 1.2}) == (2, [8, 4, 2, 1])


def test_a_large_network_is_not_tried_with_threads_that_are_far_too_few(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(net, monkeypatch, {8: 1.0, 4: 1.9}) == (8, [8, 4])


def test_one_slow_step_does_not_decide(net: DynamicNet, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter(
        [9.0, 0.2, 0.04, 0.04]
    )  # the first step is not timed, something else ran in the second
    monkeypatch.setattr(
        module,
        "step_seconds",
        lambda *_: 0.05 if torch.get_num_threads() == 2 else next(slow, 0.04),
    )
    assert measured_threads(net, RECIPE, Execution(), 2) == 1


def test_a_slower_hour_of_the_machine_does_not_decide(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = iter([1.0, 1.4])  # of 2 threads, and of 1 while something else ran
    monkeypatch.setattr(module, "_seconds", lambda *of: next(first, {2: 1.0, 1: 0.5}[of[3]]))
    assert measured_threads(net, RECIPE, Execution(), 2) == 1


def test_with_one_thread_there_is_nothing_to_measure(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda *_: pytest.fail("a step was timed"))
    assert measured_threads(net, RECIPE, Execution(), 1) == 1


def test_real_steps_leave_the_network_as_it_was(net: DynamicNet) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    heard: list[int] = []
    found = measured_threads(net, RECIPE, Execution(), 2, trying=lambda: heard.append(1))
    assert found in (1, 2)
    assert len(heard) >= 2
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_only_cores_that_this_process_may_use_count() -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program = one + "from trainers.cores import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


def test_openmp_says_how_many_threads_a_training_alone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores_alone() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")  # of nested regions, too
    assert cores_alone() == 5
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert cores_alone() == cores()
