"""Networks are traced without reading their Python code, which takes four times as long."""

from __future__ import annotations

import logging

import pytest
import torch

from spaces.contract.exit_rules import JUDGED, RULES
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.deploy.ship import ship, traced
from tests.spaces.variants import COLOUR


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_no_rule_of_exits_takes_the_batch_for_a_constant(
    rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"backbone": "resnet18", "width": 0.125}
    net = Candidate.of(family("multi_exit"), values, 1).build(COLOUR, 0).eval()
    count = net.exit_count
    knobs = Knobs(
        policy="always_on",
        exit_rule=rule,
        exit_thresholds=(0.5,) * count,
        exit_judges=((0.1,) * (JUDGED + 1),) * count if rule == "judge" else (),
    )
    with caplog.at_level(logging.DEBUG, logger="dynafront"):
        traced(ship(net, knobs, {}), torch.rand(2, 3, 16, 16))
    assert "Python code" not in caplog.text
