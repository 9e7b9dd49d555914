"""The execution is chosen by measuring."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import trainers.execution as module
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.execution import Execution, measured, options, whole_vectors
from trainers.latency import FEWEST, latencies_ms


def made(width: float) -> DynamicNet:
    values = {"backbone": "resnet8", "width": width}
    return Candidate.of(family("gated_resnet"), values, 1).build(
        Task(channels=1, height=8, width=8, classes=3), 0
    )


@pytest.fixture
def net() -> DynamicNet:
    return made(1.0)


def test_channels_last_is_not_tried_on_cpu_where_torch_corrupts_memory() -> None:
    assert not any(execution.channels_last for execution in options(made(0.25), "cpu"))
    assert any(execution.channels_last for execution in options(made(0.25), "cuda"))


@pytest.mark.parametrize(
    ("inside", "out", "kernel", "safe"),
    [(8, 16, 1, False), (12, 16, 1, False), (16, 8, 3, False), (16, 32, 1, True), (24, 16, 3, False), (1, 16, 3, True)],
)  # fmt: skip
def test_channels_last_needs_whole_vectors_of_channels(
    net: DynamicNet, inside: int, out: int, kernel: int, safe: bool
) -> None:
    assert whole_vectors(net)
    net.more = torch.nn.Conv2d(inside, out, kernel, stride=2)
    assert whole_vectors(net) == safe
    assert any(execution.channels_last for execution in options(net, "cpu")) == safe


STEPS = """
import sys, torch, torch.nn.functional as F
from tests.trainers.test_execution import steps_of_every_option
steps_of_every_option(int(sys.argv[1]), int(sys.argv[2]))
"""


def steps_of_every_option(filters: int, threads: int) -> None:
    """What each offered format makes of a training step, at all sizes; float32 ones must give plain float32's."""
    torch.set_num_threads(threads)
    for size, batch in ((28, 32), (32, 32), (48, 32), (64, 32), (96, 16), (224, 2)):
        task = Task(channels=3, height=size, width=size, classes=3)
        values = {"backbone": "resnet8", "width": filters / 16}
        net = Candidate.of(family("gated_resnet"), values, 1).build(task, 0)
        torch.manual_seed(0)
        images = torch.randn(batch, 3, size, size)
        plain, *others = [
            (execution, gradients_of(net, execution, images)) for execution in options(net, "cpu")
        ]
        for execution, found in others:
            for name, gradient in found.items():
                assert torch.isfinite(gradient).all(), (size, execution, name)
                if execution.dtype == "float32":
                    right = plain[1][name]
                    # rounding turns a few ReLUs over, which a small gradient shows most; what is spoiled is far off
                    error = (gradient - right).norm() / right.norm().clamp(min=1e-6)
                    assert error < 0.1, (size, execution, name, error)


def gradients_of(
    net: DynamicNet, execution: Execution, images: torch.Tensor
) -> dict[str, torch.Tensor]:
    one = execution.placed(copy.deepcopy(net))
    torch.manual_seed(1)
    module.step_seconds(one, execution, images, 0)
    return {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("filters", [4, 8, 12, 16])
def test_every_format_that_is_offered_trains_rightly_and_brings_no_process_down(
    filters: int, threads: int
) -> None:
    command = [sys.executable, "-c", STEPS, str(filters), str(threads)]
    passive = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=passive
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize(("fast", "ratio", "chosen"), [(1, 0.5, True), (1, 0.95, False)])
def test_an_option_is_chosen_only_when_it_is_clearly_faster(
    net: DynamicNet, monkeypatch: pytest.MonkeyPatch, fast: int, ratio: float, chosen: bool
) -> None:
    known = options(net, "cpu")

    def seconds(_: object, execution: Execution, *__: object) -> float:
        return ratio if execution == known[fast] else 1.0

    monkeypatch.setattr(module, "step_seconds", seconds)
    assert measured(net, Recipe(batch=16), "cpu") == known[fast if chosen else 0]


def test_measuring_leaves_the_network_as_it_was(net: DynamicNet) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    measured(net, Recipe(batch=16), "cpu")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_latencies_are_medians_side_by_side() -> None:
    slow, fast = (lambda x: [x @ x for _ in range(200)]), (lambda x: x)
    found = latencies_ms([slow, fast], [torch.rand(32, 32)], warm_up=1, repeats=5)
    assert found[0].median > found[1].median > 0
    assert all(one.low <= one.median <= one.high for one in found)


def test_slow_runs_are_few_and_never_too_few_to_tell_their_spread() -> None:
    runs: list[int] = []
    latencies_ms([lambda x: runs.append(len(x))], [torch.rand(2)], warm_up=20, seconds=0.0)
    assert len(runs) == FEWEST


def test_the_mean_is_of_what_inputs_take_and_not_of_runs_that_took_long() -> None:
    lasting = [1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 50.0, 9.0, 1.0, 1.0, 1.0, 9.0]
    passed = [sum(lasting[: (n + 1) // 2]) for n in range(2 * len(lasting) + 1)]
    (found,) = latencies_ms(
        [lambda x: x],
        [torch.rand(1)] * 4,
        warm_up=0,
        repeats=len(lasting),
        clock=iter(passed).__next__,
    )
    assert found.median == 1000
    assert found.mean == (3 * 1000 + 9000) / 4, "three easy inputs and one that is hard"


def test_medians_that_are_known_are_not_measured_further() -> None:
    def seconds_of_runs(lasting: list[float]) -> Callable[[], float]:
        """A clock that is read before and after each run."""
        passed = [sum(lasting[: (n + 1) // 2]) for n in range(2 * len(lasting) + 1)]
        return iter(passed).__next__

    def runs_until_known(lasting: list[float]) -> int:
        runs: list[int] = []
        images = [torch.rand(1)] * 4
        clock = seconds_of_runs(lasting)
        latencies_ms(
            [lambda x: runs.append(1)], images, warm_up=0, repeats=len(lasting), clock=clock
        )
        return len(runs)

    assert runs_until_known([1.0] * 40) == 4, "each input once"
    assert runs_until_known([1.0, 1.1] * 20) == 40, "its median may be any of these"
