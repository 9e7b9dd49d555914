"""One network at several operating points: those that differ in exits alone share a pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic
from tests.spaces.conftest import scrambled

TASK = Task(channels=3, height=16, width=16, classes=5)
IMAGES = 24


def deployed(of: str, values: dict[str, Any], **knobs: Any) -> generic.Deployed:
    """With two early exits or more; in float64, so that no answer lies at a threshold by rounding."""
    net = scrambled(Candidate.of(family(of), values, 1).build(TASK, 0))
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    levels = knobs.pop("levels", (0.3,) * net.exit_count)
    return generic.deploy(
        net.requires_grad_(False), [(Knobs(exit_thresholds=levels, **knobs), rates)]
    )


@pytest.mark.parametrize("rule", ["maxprob", "patience"])
@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
def test_exits_at_other_thresholds_take_one_pass_and_answer_the_same(
    rule: str, fallback: str
) -> None:
    own: dict[str, Any] = {"policy": "always_on", "exit_rule": rule, "fallback": fallback}
    levels = (0.3, 0.3, 0.3, 0.4) if fallback == "ensemble" else (0.3, 0.3, 0.3)
    net = deployed("multi_exit", {"width": 0.125}, levels=levels, **own)
    pixels = torch.rand(IMAGES, 3, 16, 16, dtype=torch.float64)
    sure = net.every_exit(pixels)[0][0].softmax(1).amax(1)
    some = [*levels[1:]]
    settings = [list(levels), [float(sure.median()), *some], [2.0, *some], [-1.0, *some]]
    expected = [net.run(pixels, one) for one in settings]
    passes: list[int] = []
    net.net.register_forward_hook(lambda *_: passes.append(1))
    found = net.run_at_each(pixels, settings)
    assert len(passes) == 1
    torch.testing.assert_close(found, expected)
    assert len({float(macs.mean()) for _, macs in found}) > 1


def test_points_with_other_thresholds_of_gates_take_passes_of_their_own() -> None:
    values = {"backbone": "resnet8", "exits": "scan", "granularity": "layer"}
    net = deployed("gated_resnet", values, exit_rule="maxprob")
    pixels = torch.rand(IMAGES, 3, 16, 16, dtype=torch.float64)
    named = list(net.thresholds)
    gates = sum(not name.startswith("exit") for name in named)
    assert 0 < gates < len(named)
    exits = [[level] * (len(named) - gates) for level in (0.22, 0.3, 0.5)]
    settings = [[tau] * gates + one for tau in (0.4, 0.6) for one in exits]
    settings.append([0.5] * gates + exits[0])
    expected = [net.run(pixels, one) for one in settings]
    passes: list[int] = []
    net.net.register_forward_hook(lambda *_: passes.append(1))
    found = net.run_at_each(pixels, settings)
    assert len(passes) == 3
    torch.testing.assert_close(found, expected)


def test_a_network_that_ends_at_an_exit_answers_there_at_all_its_points() -> None:
    net = deployed(
        "multi_exit",
        {"width": 0.125},
        policy="always_on",
        exit_rule="maxprob",
        fallback="ensemble",
        levels=(0.3, -1.0, 0.5),
    )
    pixels = torch.rand(IMAGES, 3, 16, 16, dtype=torch.float64)
    settings = [[level, -1.0, 0.5] for level in (0.22, 0.3, 0.9)]
    expected = [net.run(pixels, one) for one in settings]
    torch.testing.assert_close(net.run_at_each(pixels, settings), expected)
