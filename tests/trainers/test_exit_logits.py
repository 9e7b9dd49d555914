"""One pass that evaluates every exit tells what a pass under any rule would."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.data.splits import DataSpec, ImageData, load
from trainers.exit_logits import ExitLogits, exit_logits
from trainers.logits import image_logits

TEMPERATURES = (0.5, 1.0, 0.7)
JUDGES = ((8.0, 1.0, 0.5, 0.3, -1.5), (8.0, 1.0, 0.5, 0.3, -1.8))


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.2, train_limit=96, validation_limit=200))


@pytest.fixture(scope="module")
def net(digits: ImageData) -> DynamicNet:
    """Two exits, behind gates that open for some images."""
    values = {"backbone": "resnet8", "width": 0.25, "exits": "linear"}
    task = Task(channels=1, height=8, width=8, classes=10, mean=digits.mean, std=digits.std)
    made = Candidate.of(family("gated_resnet"), values, 1).build(task, 0)
    assert made.exit_count == 2
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith(("gate_heads", "exit_heads")) and parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made.eval()


@pytest.fixture(scope="module", params=["always_on", "threshold"])
def every(request: pytest.FixtureRequest, net: DynamicNet, digits: ImageData) -> ExitLogits:
    return exit_logits(net, digits.validation, digits, Knobs(policy=request.param))


def policy_of(every: ExitLogits) -> str:
    opened = [rate for gate in every.rates.values() for rate in gate]
    return "always_on" if min(opened) == 1 else "threshold"


@pytest.mark.parametrize(
    ("rule", "thresholds"),
    [*product(["maxprob", "entropy", "margin", "patience"], [2, 3]), ("judge", 2)],
)
@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
def test_the_table_under_a_rule_is_a_pass_under_it(
    net: DynamicNet,
    digits: ImageData,
    every: ExitLogits,
    rule: str,
    fallback: str,
    thresholds: int,
) -> None:
    confident = Knobs(exit_rule=rule, exit_temperatures=TEMPERATURES, exit_judges=JUDGES).exits()
    assert confident is not None
    levels = [
        float(confident.confidence(k, list(every.logits[: k + 1])).double().quantile(0.6))
        for k in range(thresholds)
    ]
    knobs = Knobs(
        policy=policy_of(every),
        exit_rule=rule,
        exit_thresholds=tuple(levels),
        exit_temperatures=TEMPERATURES,
        exit_judges=JUDGES,
        fallback=fallback,
    )
    asked = knobs.exits()
    assert asked is not None
    logits_NC, macs_N = every.under(asked)
    expected_NC, paid_N = image_logits(net, digits.validation, digits, knobs)
    assert torch.equal(logits_NC, expected_NC)
    assert torch.equal(macs_N, paid_N)
    if rule != "patience":
        assert len(macs_N.unique()) > 2


def test_knobs_without_exits_are_those_that_fill_the_table() -> None:
    knobs = Knobs(tau=0.3, exit_rule="margin", exit_thresholds=(0.2,), fallback="ensemble")
    assert knobs.without_exits() == Knobs(tau=0.3)
